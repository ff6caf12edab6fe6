/** The stored name of a network that a request names: `testnet3` is read back as `testnet`. */
export const networkOf = (requested: string): string => (requested === 'testnet3' ? 'testnet' : requested);
