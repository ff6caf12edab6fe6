import { arrowsOf, SLICES, type Arrow } from './rooms.ts';
import type { Source } from './source.ts';

/** `to` of the arrows that leave a room, as mermaid lists them; null when none does. */
const targets = (arrows: readonly Arrow[], types_only: boolean): string | null => {
  const to = arrows.filter((arrow) => arrow.types_only === types_only).map((arrow) => arrow.to);
  return to.length === 0 ? null : to.join(' & ');
};

/** The rooms and what they import, drawn by mermaid: one line a room, dotted where only types are imported. */
export function picture(root: string, sources: readonly Source[]): string {
  const arrows = arrowsOf(root, sources);
  const lines = ['flowchart TD', '  subgraph slices', `    ${[...SLICES].sort().join('\n    ')}`, '  end'];
  for (const room of new Set(arrows.map(({ from }) => from))) {
    const leaving = arrows.filter(({ from }) => from === room);
    const [called, types] = [targets(leaving, false), targets(leaving, true)];
    if (called !== null) lines.push(`  ${room} --> ${called}`);
    if (types !== null) lines.push(`  ${room} -.-> ${types}`);
  }
  return ['```mermaid', ...lines, '```'].join('\n');
}
