import type { ServerResponse } from 'node:http';
import { Type, type Static, type TObject, type TSchema } from 'typebox';
import type { EnvironmentRef } from './ids.ts';

/** What a key may do. */
export const PERMISSIONS = ['READ', 'WRITE', 'RECEIVE', 'BILLING'] as const;
export type Permission = (typeof PERMISSIONS)[number];

/** Who asks: an API key, with its one organization and environment. */
export interface Caller extends EnvironmentRef {
  key_id: string;
  environment_kind: 'staging' | 'production';
  permissions: ReadonlySet<Permission>;
  /** The organization's features that are on. */
  features: ReadonlySet<string>;
}

/** A request that was let in and has the shape of its schemas. */
export interface RouteInput<P, Q, B> {
  caller: Caller;
  params: P;
  query: Q;
  body: B;
  /** As sent, in lower case. */
  headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** An answer that goes on: takes over the socket once the headers are sent, and ends by itself. */
export class StreamAnswer {
  readonly content_type: string;
  readonly run: (socket: ServerResponse) => void;
  constructor(content_type: string, run: (socket: ServerResponse) => void) {
    this.content_type = content_type;
    this.run = run;
  }
}

/**
 * One route of the API: gives validation, types and its part of the OpenAPI document.
 * Responses are schemas of the contract, by name, so that the document cannot be narrower than it.
 */
export interface Route<
  P extends TObject = TObject,
  Q extends TObject = TObject,
  B extends TSchema = TSchema,
> {
  method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  /** As the contract spells it, without `/v1`: `/organizations/{organization_id}/wallets`. */
  path: string;
  operation_id: string;
  tag: string;
  summary: string;
  /** Any one of these suffices (WRITE includes READ and RECEIVE). A function decides by the raw body. */
  permissions: readonly Permission[] | ((raw_body: unknown) => readonly Permission[]);
  params: P;
  query: Q;
  /** Picks the schema by a discriminator of the raw body where one route takes several shapes. */
  body?: B;
  /** A request without a body counts as `{}`. */
  body_optional?: boolean;
  /** null says something of its own here, so it is not dropped before the check. */
  keeps_nulls?: boolean;
  selectBody?: (raw_body: Record<string, unknown>) => TSchema;
  /** The contract's schema of the body, by name, where the document shows that and the check is coarser. */
  body_shown?: string;
  success: {
    status: 200 | 202;
    schema?: object;
    /** The answer holds a secret that is shown once: stored for replays it is sealed. */
    secret?: boolean;
    /** Other content types that the answer may have. */
    also?: readonly string[];
  };
  /** Contract schema names by status; the ones that every operation has are added. */
  errors: Partial<Record<400 | 403 | 404 | 409 | 410 | 503, string>>;
  handler(input: RouteInput<Static<P>, Static<Q>, Static<B>>): Promise<unknown>;
}

type Shared = Partial<Pick<Route, 'tag' | 'permissions' | 'params' | 'query' | 'errors'>>;
type Given<S, Name extends keyof Route, Otherwise> = S extends Record<Name, infer Type> ? Type : Otherwise;

/**
 * Defines routes that share what is given here; each is typed by its schemas, and says what it has otherwise.
 * A route without a query schema takes no query.
 */
export const routesWith =
  <const S extends Shared>(shared: S) =>
  <
    P extends TObject = Given<S, 'params', TObject>,
    Q extends TObject = Given<S, 'query', TObject>,
    B extends TSchema = TSchema,
  >(
    route: Omit<Route<P, Q, B>, keyof S | 'query'> & Partial<Pick<Route<P, Q, B>, keyof Shared>>,
  ): Route =>
    ({ query: NO_QUERY, ...shared, ...route }) as unknown as Route;

const NO_QUERY = Type.Object({});
