import { Type } from 'typebox';
import type { Database } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { requireFeature } from '../core/features.ts';
import { routesWith, type Caller, type Route } from '../core/http.ts';
import { networkOf } from '../core/networks.ts';
import { uuid, wireInteger } from '../core/schema.ts';
import { lockLine, type LineOfCredit } from '../ledger/lines.ts';
import { changeLine, readLine, readLines } from './store.ts';

// Lines of credit as a tenant sees them. Here they are lowered, raised and disabled outside mainnet; all else (making
// one, its fees and spread, enabling it again) is the operator's, by command.

const ERRORS = {
  400: 'ErrorResponse_LineOfCreditBadRequestError',
  403: 'ErrorResponse_LineOfCreditForbiddenError',
};
const route = routesWith({ tag: 'Lines of Credit', errors: ERRORS });
const NOT_FOUND = { 404: 'ErrorResponse_LineOfCreditNotFoundError' };

const lineView = (line: LineOfCredit): object => ({
  id: line.id,
  organization_id: line.organization_id,
  network: line.network,
  environment_id: line.environment_id,
  limit: line.limit,
  allocated_limit: line.allocated_limit,
  currency: line.currency,
  // Nothing is deposited or verified here: the contract shows null for waived collateral.
  status: null,
  disabled_at: line.disabled_at,
});

const unknown = (caller: Caller): ApiError =>
  new ApiError('line_of_credit_not_found_in_organization', 'no such line of credit', {
    context: { organization_id: caller.organization_id },
  });

const notAllowed = (line_of_credit_id: string, detail: string): ApiError =>
  new ApiError('not_allowed', detail, { context: { line_of_credit_id } });

/** The three operations on lines of credit. */
export function creditRoutes({ db }: { db: Database }): Route[] {
  return [
    route({
      method: 'GET',
      path: '/organizations/{organization_id}/lines_of_credit/summaries',
      operation_id: 'get_lines_of_credit_summaries_as_user',
      summary: "List the lines of credit of the key's environment",
      permissions: ['READ', 'BILLING'],
      params: Type.Object({ organization_id: uuid() }),
      query: Type.Object({
        network: Type.Optional(Type.String({ enum: ['mainnet', 'testnet3', 'mutinynet'] })),
        environment_ids: Type.Optional(Type.Array(uuid())),
        include_disabled: Type.Optional(Type.Boolean()),
      }),
      success: {
        status: 200,
        schema: { type: 'array', items: { $ref: '#/components/schemas/SummaryLineOfCredit' } },
      },
      handler: async ({ caller, query }) => {
        const { network, environment_ids, include_disabled = false } = query;
        // A key has one environment: a filter that names only others leaves nothing.
        if (environment_ids?.every((id) => id.toLowerCase() !== caller.environment_id)) return [];
        const filter = { network: network === undefined ? null : networkOf(network), include_disabled };
        return (await readLines(db, caller, filter)).map(lineView);
      },
    }),
    route({
      method: 'GET',
      path: '/organizations/{organization_id}/lines_of_credit/{line_id}/summary',
      operation_id: 'get_line_of_credit_summary_as_user',
      summary: 'Read one line of credit',
      permissions: ['READ', 'BILLING'],
      params: Type.Object({ organization_id: uuid(), line_id: uuid() }),
      success: { status: 200, schema: { $ref: '#/components/schemas/SummaryLineOfCredit' } },
      errors: { ...ERRORS, ...NOT_FOUND },
      handler: async ({ caller, params }) => {
        const line = await readLine(db, caller, params.line_id);
        if (!line) throw unknown(caller);
        return lineView(line);
      },
    }),
    updateRoute(db),
  ];
}

function updateRoute(db: Database): Route {
  return route({
    method: 'PATCH',
    path: '/organizations/{organization_id}/environments/{environment_id}/lines_of_credit/{line_id}/sandbox',
    operation_id: 'update_sandbox_line_of_credit',
    summary: 'Change the limit of a line that is not on mainnet, or disable it',
    permissions: ['WRITE'],
    params: Type.Object({ organization_id: uuid(), environment_id: uuid(), line_id: uuid() }),
    body: Type.Object({
      limit: Type.Optional(wireInteger('u-int64', { minimum: 1 })),
      disable: Type.Optional(Type.Boolean()),
    }),
    success: { status: 202 },
    errors: { ...ERRORS, ...NOT_FOUND },
    handler: async ({ caller, params, body }) => {
      requireFeature(caller.features, 'payments');
      const { line_id } = params;
      const { limit, disable } = body;
      await db.transaction(async (sql) => {
        // Locked before it is judged: no wallet takes of the limit that is lowered here.
        const line = await lockLine(sql, caller.organization_id, line_id, caller.environment_id);
        if (!line) throw unknown(caller);
        if (line.network === 'mainnet')
          throw notAllowed(line_id, 'a mainnet line is changed by its operator');
        if (disable === false && line.disabled_at !== null) {
          throw notAllowed(line_id, 'only the operator enables a disabled line');
        }
        if (limit === undefined && disable !== true) {
          throw new ApiError('no_updates_provided', 'nothing to change: give limit, or disable: true', {
            context: { line_of_credit_id: line_id },
          });
        }
        await changeLine(sql, line, {
          limit: limit === undefined ? undefined : BigInt(limit),
          // false asks for nothing: whoever gets here has a line that is not disabled.
          disabled: disable === true ? true : undefined,
        });
      });
    },
  });
}
