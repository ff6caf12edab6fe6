import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Network } from './node.ts';

// Read once, with the configuration: an operator is told of every fault of every node before anything starts. What is not
// known here is a fault, too: a misspelt option would otherwise be one that silently does not hold.

/** A node as the operator registered it; what its files hold is read. */
export interface NodeEntry {
  id: string;
  network: Network;
  kind: 'lnd';
  socket: string;
  cert: Buffer;
  macaroon: Buffer;
  /** Whether invoices carry route hints for channels that are not announced. */
  private_hints: boolean;
}

/** Networks as an operator may name them (`testnet3` is how a wallet request spells it). */
const NETWORKS: Record<string, Network> = {
  mainnet: 'mainnet',
  testnet: 'testnet',
  testnet3: 'testnet',
  mutinynet: 'mutinynet',
};
const KNOWN = new Set(['id', 'network', 'kind', 'socket', 'cert_file', 'macaroon_file', 'private_hints']);
const MAX_NODES = 100;

/**
 * Reads the nodes file: a JSON list of `{id, network, kind: "lnd", socket, cert_file, macaroon_file, private_hints?}`,
 * paths relative to it. Every fault is added to `faults`, by node and field; secrets are never repeated.
 */
export function readNodesFile(path: string, faults: string[]): NodeEntry[] {
  let list: unknown;
  try {
    list = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    faults.push(`COULOMB_NODES_FILE ${path}: ${(error as Error).message}`);
    return [];
  }
  if (!Array.isArray(list) || list.length > MAX_NODES) {
    faults.push(`COULOMB_NODES_FILE ${path} must be a JSON list of at most ${MAX_NODES} nodes`);
    return [];
  }
  const entries = list.map((item, index) => readNode(item, index, dirname(resolve(path)), faults));
  const ids = entries.flatMap((entry) => (entry ? [entry.id] : []));
  for (const id of new Set(ids.filter((other, index) => ids.indexOf(other) !== index))) {
    // Two nodes of one id would share accounts, payments and history.
    faults.push(`node ${id} is registered twice`);
  }
  return entries.filter((entry) => entry !== null);
}

function readNode(item: unknown, index: number, folder: string, faults: string[]): NodeEntry | null {
  const fields = (typeof item === 'object' && item !== null ? item : {}) as Record<string, unknown>;
  // By its id where it has one, for that is what the operator will search for.
  const name = typeof fields['id'] === 'string' ? `node ${fields['id']}` : `node number ${index + 1}`;
  const found: string[] = [];
  const text = (field: string): string => {
    const value = fields[field];
    if (typeof value === 'string' && value !== '') return value;
    found.push(`${field} must be a non-empty text`);
    return '';
  };
  const file = (field: string): Buffer => {
    const given = text(field);
    if (given === '') return Buffer.alloc(0);
    try {
      const content = readFileSync(resolve(folder, given));
      if (content.length === 0) found.push(`${field} ${given} is empty`);
      return content;
    } catch (error) {
      found.push(`${field}: ${(error as Error).message}`);
      return Buffer.alloc(0);
    }
  };
  const id = text('id');
  if (id !== '' && !/^[a-z0-9][a-z0-9-]{0,62}$/.test(id)) {
    found.push('id must be 1 to 63 lower-case letters, digits and hyphens');
  }
  if (id === 'sandbox') found.push('the id sandbox is taken');
  const network = NETWORKS[text('network')];
  if (network === undefined) found.push(`network must be one of ${Object.keys(NETWORKS).join(', ')}`);
  if (fields['kind'] !== 'lnd') found.push('kind must be lnd');
  const socket = text('socket');
  if (socket !== '' && !/^\S+:\d{1,5}$/.test(socket)) found.push('socket must be host:port');
  const cert = file('cert_file');
  if (cert.length > 0 && !cert.includes('BEGIN CERTIFICATE')) found.push('cert_file is no PEM certificate');
  const macaroon = file('macaroon_file');
  // Binary macaroons of version 2 are the only ones that lnd writes.
  if (macaroon.length > 0 && macaroon[0] !== 2) found.push('macaroon_file is no binary macaroon');
  const hints = fields['private_hints'] ?? false;
  if (typeof hints !== 'boolean') found.push('private_hints must be true or false');
  for (const field of Object.keys(fields)) if (!KNOWN.has(field)) found.push(`${field} is not known`);
  faults.push(...found.map((fault) => `${name}: ${fault}`));
  if (found.length > 0 || network === undefined) return null;
  return { id, network, kind: 'lnd', socket, cert, macaroon, private_hints: hints === true };
}
