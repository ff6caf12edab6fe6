import { Address, OutScript } from '@scure/btc-signer';
import type { ChainParams } from './node.ts';

/** How addresses and invoices of each chain look. Mutinynet is a signet: `tb1…`, invoices `lntbs…`. */
export const CHAINS = {
  mainnet: { invoice_prefix: 'bc', bech32: 'bc', pub_key_hash: 0x00, script_hash: 0x05 },
  testnet: { invoice_prefix: 'tb', bech32: 'tb', pub_key_hash: 0x6f, script_hash: 0xc4 },
  mutinynet: { invoice_prefix: 'tbs', bech32: 'tb', pub_key_hash: 0x6f, script_hash: 0xc4 },
  regtest: { invoice_prefix: 'bcrt', bech32: 'bcrt', pub_key_hash: 0x6f, script_hash: 0xc4 },
} as const satisfies Record<string, ChainParams>;

export type CheckedAddress =
  | { ok: true; script: string; dust_sats: bigint }
  | { ok: false; fault: 'invalid_address' | 'invalid_network'; detail: string };

/** Outputs below these many sats are not relayed (Bitcoin Core's default dust relay fee). */
const DUST_SATS: Record<string, bigint> = { pkh: 546n, sh: 540n, wpkh: 294n, wsh: 330n, tr: 330n };

const network = ({ bech32, pub_key_hash, script_hash }: ChainParams) => ({
  bech32,
  pubKeyHash: pub_key_hash,
  scriptHash: script_hash,
  wif: 0x80,
});

function decode(address: string, chain: ChainParams): CheckedAddress | null {
  try {
    const output = Address(network(chain)).decode(address);
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
  const elsewhere = Object.entries(CHAINS).find(
    ([, other]) => other.bech32 !== chain.bech32 && decode(address, other),
  );
  return elsewhere
    ? { ok: false, fault: 'invalid_network', detail: `an address of ${elsewhere[0]}` }
    : { ok: false, fault: 'invalid_address', detail: 'not a Bitcoin address, or its checksum is wrong' };
}
