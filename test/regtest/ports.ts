import { createServer } from 'node:net';

/** Ports that nobody listens on now. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((done, fail) => {
          server.once('error', fail);
          server.listen(0, '127.0.0.1', () => done((server.address() as { port: number }).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
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

/** Asks again until `work` answers; throws its last error when the time is up. */
export async function eventually<T>(work: () => Promise<T>, timeout_ms = 60_000, pause_ms = 100): Promise<T> {
  const give_up_at = Date.now() + timeout_ms;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() > give_up_at) throw error;
      await new Promise((done) => setTimeout(done, pause_ms));
    }
  }
}
