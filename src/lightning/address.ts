import { Address, NETWORK, OutScript, TEST_NETWORK } from '@scure/btc-signer';
import type { ChainParams } from './node.ts';

/**
 * How addresses and invoices of each chain look, by the names that lnd gives them. Mutinynet is a signet, and the test
 * chains share their addresses: between them only an invoice's prefix tells which one was meant.
 */
export const CHAINS = {
  mainnet: { invoice_prefix: 'bc', addresses: NETWORK },
  testnet: { invoice_prefix: 'tb', addresses: TEST_NETWORK },
  testnet4: { invoice_prefix: 'tb', addresses: TEST_NETWORK },
  signet: { invoice_prefix: 'tbs', addresses: TEST_NETWORK },
  mutinynet: { invoice_prefix: 'tbs', addresses: TEST_NETWORK },
  regtest: { invoice_prefix: 'bcrt', addresses: { ...TEST_NETWORK, bech32: 'bcrt' } },
} as const satisfies Record<string, ChainParams>;

export type CheckedAddress =
  | { ok: true; script: string; dust_sats: bigint }
  | { ok: false; fault: 'invalid_address' | 'invalid_network'; detail: string };

/** Outputs below these many sats are not relayed (Bitcoin Core's default dust relay fee). */
const DUST_SATS: Record<string, bigint> = { pkh: 546n, sh: 540n, wpkh: 294n, wsh: 330n, tr: 330n };

// Null: not an address, or not one of this chain; the library does not say which. Without a dust limit are addresses that
// it reads and that are no recipient: what is paid to P2A, anyone may spend.
function decode(address: string, { addresses }: ChainParams): CheckedAddress | null {
  try {
    const output = Address(addresses).decode(address);
    const dust_sats = DUST_SATS[output.type];
    if (dust_sats === undefined) return null;
    return { ok: true, script: Buffer.from(OutScript.encode(output)).toString('hex'), dust_sats };
  } catch {
    return null;
  }
}

/** Checks an address against a chain: checksum, witness version and program, network. */
export function checkAddress(address: string, chain: ChainParams): CheckedAddress {
  const own = decode(address, chain);
  if (own) return own;
  // Chains that write addresses alike would read it as their own; only another spelling names another network.
  const elsewhere = Object.entries(CHAINS).find(
    ([, other]) => other.addresses.bech32 !== chain.addresses.bech32 && decode(address, other),
  );
  return elsewhere
    ? { ok: false, fault: 'invalid_network', detail: `an address of ${elsewhere[0]}` }
    : { ok: false, fault: 'invalid_address', detail: 'not a Bitcoin address, or its checksum is wrong' };
}
