import { after } from 'node:test';
import { actor } from './actor.ts';
import { auditClean, startTestServer } from './fixtures.ts';
import { startReceiver, type Receiver } from './receiver.ts';

// What the tests of one file stand on: opened when the file is read, taken down after its last test.
const ends: (() => unknown)[] = [];

/** Done after the last test of the file; what came last goes first. */
export const atEnd = (end: () => unknown): void => void ends.push(end);

after(async () => {
  const faults: unknown[] = [];
  for (const end of ends.reverse()) {
    try {
      await end();
    } catch (error) {
      // What is left is taken down all the same.
      faults.push(error);
    }
  }
  if (faults.length > 0) throw faults[0];
});

/** A server and a client of it. When all tests are over, its audit must find no fault. */
export async function openServer(...given: Parameters<typeof startTestServer>) {
  const server = await startTestServer(...given);
  atEnd(() => server.stop());
  atEnd(() => auditClean(server.db));
  return { server, me: actor(server) };
}

/** A receiver of webhooks. */
export async function openReceiver(): Promise<Receiver> {
  const receiver = await startReceiver();
  atEnd(() => receiver.close());
  return receiver;
}
