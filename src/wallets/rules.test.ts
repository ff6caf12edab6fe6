import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import { MAX_LIMIT } from '../core/money.ts';
import type { LineOfCredit } from '../ledger/lines.ts';
import type { LightningNode } from '../lightning/node.ts';
import { checkEmpty, checkLine, checkRequest, firstLine, type NewWallet } from './rules.ts';

// The rules read nothing else of a node.
const nodesOf = (...nodes: Pick<LightningNode, 'id' | 'network' | 'sandbox'>[]) =>
  new Map(nodes.map((node) => [node.id, node as LightningNode]));
const sandbox = { id: 'sandbox', network: 'mutinynet', sandbox: true } as const;
const real = { id: 'lnd', network: 'testnet', sandbox: false } as const;
const nodes = nodesOf(sandbox, real);

const wallet = (fields: Partial<NewWallet> = {}): NewWallet => ({
  organization_id: newId(),
  environment_id: newId(),
  id: newId(),
  line_of_credit_id: newId(),
  name: 'savings',
  network: 'mutinynet',
  limit: 0n,
  metadata: null,
  ...fields,
});
const line = (fields: Partial<LineOfCredit> = {}): LineOfCredit => ({
  organization_id: newId(),
  id: newId(),
  environment_id: newId(),
  node_id: 'sandbox',
  network: 'mutinynet',
  currency: 'btc',
  limit: 1000n,
  allocated_limit: 400n,
  disabled_at: null,
  send_bps: 0,
  receive_bps: 0,
  spread_bps: 0,
  ...fields,
});
const refusal = (work: () => void): { type: string; context: unknown } => {
  try {
    work();
  } catch (error) {
    if (error instanceof ApiError) return { type: error.type, context: error.context };
    throw error;
  }
  return { type: 'accepted', context: undefined };
};

test('every field at fault is named at once', () => {
  assert.deepEqual(
    refusal(() => checkRequest(wallet({ network: 'mainnet', limit: MAX_LIMIT + 1n }), nodes)),
    {
      type: 'invalid_request',
      context: { fields: ['network', 'limit'] },
    },
  );
  assert.equal(refusal(() => checkRequest(wallet({ limit: MAX_LIMIT }), nodes)).type, 'accepted');
});

test('the first wallet of a staging environment brings a line of a million sats, or of its own limit', () => {
  assert.equal(firstLine(wallet({ limit: 5n }), 'staging', nodes)?.limit, 1_000_000_000n);
  assert.equal(firstLine(wallet({ limit: 2_000_000_000n }), 'staging', nodes)?.limit, 2_000_000_000n);
});

test('no wallet brings a line in production, or where a real node serves the network', () => {
  assert.equal(firstLine(wallet(), 'production', nodes), null);
  assert.equal(firstLine(wallet({ network: 'testnet' }), 'staging', nodes), null);
  const both = nodesOf(sandbox, { ...real, network: 'mutinynet' });
  assert.equal(firstLine(wallet(), 'staging', both), null);
});

test('a line takes wallets up to its limit and not one unit more', () => {
  assert.equal(refusal(() => checkLine(line(), wallet({ limit: 600n }), nodes)).type, 'accepted');
  assert.equal(
    refusal(() => checkLine(line(), wallet({ limit: 601n }), nodes)).type,
    'line_of_credit_cannot_allocate_wallet_limit',
  );
});

test('a disabled line, a line of another network and one without its node refuse wallets', () => {
  const disabled = line({ disabled_at: '2026-01-01T00:00:00.000000Z' });
  assert.deepEqual(
    refusal(() => checkLine(disabled, wallet(), nodes)),
    {
      type: 'line_of_credit_disabled',
      context: { line_of_credit_id: disabled.id },
    },
  );
  const other = line({ network: 'testnet', node_id: 'lnd' });
  assert.equal(refusal(() => checkLine(other, wallet(), nodes)).type, 'line_of_credit_network_mismatch');
  assert.deepEqual(
    refusal(() => checkLine(line({ node_id: 'gone' }), wallet(), nodes)),
    {
      type: 'invalid_request',
      context: { fields: ['network'] },
    },
  );
});

test('a wallet that has, owes, holds or awaits money is not empty', () => {
  const empty = { total: 0n, held: 0n, open_receive: false };
  const id = newId();
  assert.equal(refusal(() => checkEmpty(id, empty)).type, 'accepted');
  for (const rest of [{ total: 1n }, { total: -1n }, { held: 1n }, { open_receive: true }]) {
    assert.deepEqual(
      refusal(() => checkEmpty(id, { ...empty, ...rest })),
      {
        type: 'wallet_not_empty',
        context: { wallet_id: id },
      },
    );
  }
});
