/**
 * Every error type that an operation of the contract may answer, with its HTTP status.
 * Closed: a refusal outside this table does not compile. Clients branch on `type` and `code`.
 */
const ERROR_STATUS = {
  missing_content_type: 415,
  payload_too_large: 413,
  invalid_syntax: 400,
  invalid_data: 422,
  invalid_parameter: 400,
  missing_parameter: 400,
  missing_credentials: 400,
  wrong_credentials: 401,
  invalid_token: 401,
  access_rights: 403,
  not_allowed: 403,
  not_found: 404,
  method_not_allowed: 405,
  internal_error: 500,
  temporarily_unavailable: 503,
  read_temporarily_unavailable: 503,
  feature_flag_disabled: 400,
  // wallets
  instance_not_found: 404,
  invalid_request: 400,
  line_of_credit_not_found: 400,
  line_of_credit_disabled: 400,
  line_of_credit_network_mismatch: 400,
  line_of_credit_cannot_allocate_wallet_limit: 400,
  wallet_not_empty: 400,
  wallet_policies_not_found: 404,
  // lines of credit
  line_of_credit_not_found_in_organization: 404,
  no_updates_provided: 400,
  invalid_line_of_credit_limit: 400,
  // payments
  payment_exists: 409,
  payment_not_found: 404,
  wallet_not_found: 404,
  invalid_payment: 400,
  invalid_amount: 400,
  invalid_max_fee: 400,
  invalid_on_chain_payment: 400,
  invalid_bolt11_payment_request: 400,
  invalid_address: 400,
  invalid_network: 400,
  invalid_currency: 400,
  invalid_quote: 400,
  invalid_cursor: 400,
  invalid_filter: 400,
  invalid_description: 400,
  invalid_receive_payment: 400,
  amount_match_failed: 400,
  amount_required: 400,
  missing_payment_request: 400,
  missing_address: 400,
  quote_required: 400,
  not_supported_network: 400,
  // webhooks and events
  invalid_webhook: 400,
  webhook_exists: 409,
  webhook_not_found: 404,
  webhook_delivery_not_found: 404,
  events_removed: 410,
  // quotes
  invalid_quote_request: 400,
  mismatch_currency: 400,
  mismatch_target_precision: 400,
  quote_already_exists: 409,
  quote_not_found: 404,
} as const;

/** What a client branches on first. */
export type ErrorType = keyof typeof ERROR_STATUS;

/** What a refusal says beside its type and text: the contract has codes and context for some types. */
export interface ErrorExtra {
  code?: string;
  context?: Record<string, unknown>;
  /** Overrides the table's status where one type stands under two (idempotency mismatch: 422). */
  status?: number;
}

/** A refusal that the client is told about: one row of the closed table above. */
export class ApiError extends Error {
  readonly type: ErrorType;
  readonly status: number;
  readonly code: string | undefined;
  readonly context: Record<string, unknown> | undefined;

  constructor(type: ErrorType, detail: string, extra: ErrorExtra = {}) {
    super(detail);
    this.type = type;
    this.status = extra.status ?? ERROR_STATUS[type];
    this.code = extra.code;
    this.context = extra.context;
  }

  /** The contract's envelope; what is undefined in it is not written. */
  body(): { error: Record<string, unknown> } {
    // `temporarily_unavailable` is ours for the place of the contract's `internal_error` on a 503.
    const type = this.type === 'temporarily_unavailable' ? 'internal_error' : this.type;
    return { error: { type, detail: this.message, code: this.code, context: this.context } };
  }
}
