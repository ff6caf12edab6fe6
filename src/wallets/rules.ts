import { ApiError } from '../core/errors.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { MAX_LIMIT, maxOf } from '../core/money.ts';
import type { LineOfCredit } from '../ledger/lines.ts';
import type { LightningNode } from '../lightning/node.ts';

// What decides whether a wallet may be made or deleted: pure, on rows that the caller has locked.

/** A validated request for a wallet. The limit is in base units of its line's currency. */
export interface NewWallet extends EnvironmentRef {
  id: string;
  line_of_credit_id: string;
  name: string;
  network: string;
  limit: bigint;
  metadata: Record<string, string> | null;
}

/** The contract's refusal of fields that are well formed and still not acceptable. */
export const invalidFields = (fields: readonly string[], detail: string): ApiError =>
  new ApiError('invalid_request', detail, { context: { fields } });

const nodesOn = (nodes: ReadonlyMap<string, LightningNode>, network: string): LightningNode[] =>
  [...nodes.values()].filter((node) => node.network === network);

/** Refuses what needs no database to be wrong, naming every field at fault. */
export function checkRequest(wallet: NewWallet, nodes: ReadonlyMap<string, LightningNode>): void {
  const fields: string[] = [];
  if (nodesOn(nodes, wallet.network).length === 0) fields.push('network');
  if (wallet.limit > MAX_LIMIT) fields.push('limit');
  if (fields.length > 0) throw invalidFields(fields, `not acceptable: ${fields.join(', ')}`);
}

/** The limit of the line that comes with the first wallet of a staging environment, in msats. */
const FIRST_LINE_LIMIT_MSATS = 1_000_000_000n;

/**
 * The line that the first wallet of a staging environment brings with it; null where lines come from the
 * operator only: in production, and on a network that a real node serves. The caller knows that the
 * environment has no line on this network yet.
 */
export function firstLine(
  wallet: NewWallet,
  environment_kind: 'staging' | 'production',
  nodes: ReadonlyMap<string, LightningNode>,
): LineOfCredit | null {
  const serving = nodesOn(nodes, wallet.network);
  const [sandbox] = serving;
  if (environment_kind !== 'staging' || !sandbox || !serving.every((node) => node.sandbox)) return null;
  return {
    organization_id: wallet.organization_id,
    id: wallet.line_of_credit_id,
    environment_id: wallet.environment_id,
    node_id: sandbox.id,
    network: wallet.network,
    currency: 'btc',
    limit: maxOf(FIRST_LINE_LIMIT_MSATS, wallet.limit),
    allocated_limit: 0n,
    disabled_at: null,
    send_bps: 0,
    receive_bps: 0,
    spread_bps: 0,
  };
}

/** Whether a line takes one more wallet; throws the contract's refusals. */
export function checkLine(
  line: LineOfCredit,
  wallet: NewWallet,
  nodes: ReadonlyMap<string, LightningNode>,
): void {
  if (line.disabled_at !== null) {
    throw new ApiError('line_of_credit_disabled', 'the line of credit is disabled', {
      context: { line_of_credit_id: line.id },
    });
  }
  if (line.network !== wallet.network) {
    throw new ApiError('line_of_credit_network_mismatch', `the line of credit is on ${line.network}`);
  }
  // A node that is registered no more: nothing could come to such a wallet, or leave it.
  if (!nodes.has(line.node_id)) throw invalidFields(['network'], "the line's node is not in service here");
  const free = line.limit - line.allocated_limit;
  if (wallet.limit > free) {
    throw new ApiError(
      'line_of_credit_cannot_allocate_wallet_limit',
      `the line of credit has ${free} of ${line.limit} left to allocate`,
    );
  }
}

/** What stands between a wallet and its deletion. */
export interface Remains {
  total: bigint;
  held: bigint;
  open_receive: boolean;
}

/** Refuses to delete a wallet that has money, owes some, or still waits for some. */
export function checkEmpty(wallet_id: string, remains: Remains): void {
  const reason =
    remains.total !== 0n
      ? 'its total is not 0'
      : remains.held !== 0n
        ? 'it has funds on hold'
        : remains.open_receive
          ? 'it has an open receive'
          : null;
  if (reason === null) return;
  throw new ApiError('wallet_not_empty', `the wallet cannot be deleted: ${reason}`, {
    context: { wallet_id },
  });
}
