/** Networks as a request names them, and as they are stored and read back. */
const NETWORKS: Record<string, string> = { mainnet: 'mainnet', testnet3: 'testnet', mutinynet: 'mutinynet' };

/** The stored name of a network that a request names: `testnet3` is read back as `testnet`. */
export const networkOf = (requested: string): string => NETWORKS[requested] ?? requested;
