import { randomInt } from 'node:crypto';
import { createServer, type Server } from 'node:net';

/** Below those that systems give to outgoing connections: one of them may take the port of a node that is not up just now. */
const LEAST_PORT = 15_000;
const MOST_PORT = 32_000;
const TRIES = 100;

const listensAt = (port: number): Promise<Server | null> =>
  new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(null));
    server.listen(port, '127.0.0.1', () => done(server));
  });

/** Ports that nobody listens on now. */
export async function freePorts(count: number): Promise<number[]> {
  const found = new Map<number, Server>();
  for (let tries = 0; found.size < count; tries += 1) {
    if (tries > TRIES) throw new Error('no port is free');
    const port = randomInt(LEAST_PORT, MOST_PORT);
    const server = await listensAt(port);
    if (server) found.set(port, server);
  }
  await Promise.all([...found.values()].map((server) => new Promise((done) => server.close(done))));
  return [...found.keys()];
}

/** Listens at an address and hangs up on whoever comes, until the function that it gives is called. */
export async function keepPort(address: string): Promise<() => Promise<void>> {
  const { hostname, port } = new URL(`http://${address}`);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(Number(port), hostname, done);
  });
  return () => new Promise((done) => server.close(() => done()));
}
