import type { LightningNode, Network } from './node.ts';

/** How requests spell a network; answers spell `testnet3` as `testnet`. */
export const SUPPORTED_NETWORKS = ['mainnet', 'testnet3', 'mutinynet'] as const;

export type SupportedNetwork = (typeof SUPPORTED_NETWORKS)[number];

/** The network that a request's spelling means. */
export const fromSupported = (network: SupportedNetwork): Network =>
  network === 'testnet3' ? 'testnet' : network;

/** The nodes that serve a network here. */
export const nodesOn = (nodes: ReadonlyMap<string, LightningNode>, network: string): LightningNode[] =>
  [...nodes.values()].filter((node) => node.network === network);
