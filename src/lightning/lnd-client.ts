import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import {
  Channel,
  connectivityState,
  credentials,
  Metadata,
  status,
  type ChannelCredentials,
  type ClientReadableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { authenticatedLndGrpc } from 'lightning';

// How lnd is spoken to: raw gRPC over the clients of the `lightning` package. Its own wrappers turn amounts into
// numbers and hide which failures came from the node; here 64-bit integers stay text and every error keeps its code.
// Nothing is ever repeated here: who calls decides whether a call may be made twice.

type Service = 'default' | 'router' | 'invoices' | 'wallet' | 'chain' | 'blocks';

export interface LndClient {
  /** One question, one answer. Rejects with a gRPC `ServiceError`; after `timeout_ms` with DEADLINE_EXCEEDED. */
  ask<T>(service: Service, method: string, request: object, timeout_ms?: number): Promise<T>;
  /** Opens a stream; `macaroon` (hex) replaces the usual one. */
  listen<T>(service: Service, method: string, request: object, macaroon?: string): ClientReadableStream<T>;
  /** Whether the connection stands; asking also makes an idle one connect. */
  connected(): boolean;
  /** Drops the connection and what is under way on it, and makes a new one: the old may be half dead. */
  reconnect(): void;
  close(): void;
}

export interface LndAccess {
  /** host:port */
  socket: string;
  /** PEM. */
  cert: Buffer;
  macaroon: Buffer;
}

type Method = (...parameters: unknown[]) => unknown;
type RawClient = Record<string, Method> & { close(): void };
type ClientClass = new (
  socket: string,
  credentials: ChannelCredentials,
  options: { channelOverride: Channel },
) => RawClient;

/** Long enough for a busy node on a slow disk; after it the answer is unknown. */
const ASK_TIMEOUT_MS = 30_000;

const CHANNEL_OPTIONS = {
  // A link that swallows everything is noticed within 15 s (lnd allows a ping every 5 s while a stream is open).
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.keepalive_permit_without_calls': 0,
  // A node that is away is tried again after at most 10 s.
  'grpc.initial_reconnect_backoff_ms': 500,
  'grpc.min_reconnect_backoff_ms': 500,
  'grpc.max_reconnect_backoff_ms': 10_000,
  // The library must not repeat a call by itself: a payment is sent once per decision of ours.
  'grpc.enable_retries': 0,
  // Lists of an old node (closed channels, transactions) outgrow the library's 4 MB.
  'grpc.max_receive_message_length': -1,
};

/** An address is no server name in TLS: where the certificate names localhost too, that is asked for instead. */
function nameOptions({ socket, cert }: LndAccess): Record<string, string> {
  const host = socket.slice(0, socket.lastIndexOf(':')).replaceAll(/[[\]]/g, '');
  const named = isIP(host) === 0 || new X509Certificate(cert).checkHost('localhost') === undefined;
  return named ? {} : { 'grpc.ssl_target_name_override': 'localhost' };
}

let classes: [service: string, ClientClass][] | null = null;

/** The classes of lnd's services. `lightning` loads the protocol and makes one client of each; that takes a while. */
function serviceClasses(): [service: string, ClientClass][] {
  if (classes) return classes;
  const { lnd } = authenticatedLndGrpc({ cert: '', socket: 'localhost:0' } as never);
  return (classes = Object.entries(lnd as unknown as Record<string, RawClient>).map(([name, client]) => {
    client.close();
    return [name, client.constructor as unknown as ClientClass];
  }));
}

/** One connection for all services: a payment never waits for a handshake of its own. */
function openConnection(access: LndAccess) {
  const ssl = credentials.createSsl(access.cert);
  const channel = new Channel(access.socket, ssl, { ...CHANNEL_OPTIONS, ...nameOptions(access) });
  const services: Record<string, RawClient> = {};
  for (const [name, Client] of serviceClasses())
    services[name] = new Client(access.socket, ssl, { channelOverride: channel });
  return { services, channel };
}

function metadataOf(macaroon: string): Metadata {
  const metadata = new Metadata();
  metadata.set('macaroon', macaroon);
  return metadata;
}

/** Opens the connection to a node; it connects by itself, again and again. Nothing is asked yet. */
export function openLnd(access: LndAccess): LndClient {
  let connection = openConnection(access);
  const usual = metadataOf(access.macaroon.toString('hex'));
  const methodOf = (service: Service, name: string): Method => {
    const client = connection.services[service];
    const method = client?.[name];
    if (!method) throw new Error(`lnd has no method ${service}.${name}`);
    return method.bind(client);
  };
  return {
    ask: <T>(service: Service, name: string, request: object, timeout_ms = ASK_TIMEOUT_MS) =>
      new Promise<T>((resolve, reject) => {
        methodOf(service, name)(
          request,
          usual,
          { deadline: Date.now() + timeout_ms },
          (error: ServiceError | null, answer: T) => (error ? reject(error) : resolve(answer)),
        );
      }),
    listen: <T>(service: Service, name: string, request: object, macaroon?: string) =>
      methodOf(service, name)(
        request,
        macaroon === undefined ? usual : metadataOf(macaroon),
      ) as ClientReadableStream<T>,
    connected: () => connection.channel.getConnectivityState(true) === connectivityState.READY,
    reconnect() {
      connection.channel.close();
      connection = openConnection(access);
    },
    close: () => connection.channel.close(),
  };
}

/** A gRPC failure as lnd or the link told it. */
export interface LndFailure {
  code: number;
  details: string;
}

export const failureOf = (error: unknown): LndFailure => {
  const { code, details } = error as Partial<ServiceError>;
  // What carries no gRPC status never came from the node.
  return { code: code ?? status.UNAVAILABLE, details: details ?? String(error) };
};

// What the link or the library says. Anything else is an answer of the node itself.
const LINK_CODES: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.UNAVAILABLE,
  status.INTERNAL,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
]);

/** True when an error says nothing about the node's mind: the call may have been heard or not. */
export const isLinkFailure = ({ code, details }: LndFailure): boolean =>
  LINK_CODES.has(code) || /context canceled|deadline exceeded|shutting down|not yet ready/i.test(details);

/** Lower-case hex of bytes that lnd sends. */
export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const bytesOf = (hex: string): Buffer => Buffer.from(hex, 'hex');

/** Runs `work` over all items, a bounded number at a time, answers in their order. */
export async function inTurns<T, R>(
  items: readonly T[],
  at_once: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const runner = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      results[index] = await work(items[index] as T);
    }
  };
  await Promise.all(Array.from({ length: Math.min(at_once, items.length) }, runner));
  return results;
}
