import { connect, createServer, type Socket } from 'node:net';

/** A TCP link that can be cut, slowed or made to swallow everything. */
export interface Proxy {
  port: number;
  /** Resets every connection; new ones go through. */
  reset(): void;
  /** Refuses connections and resets those that stand. */
  cut(): void;
  /**
   * What clients say on the connections that stand is kept; it goes out at `mend`, even if the client is gone by
   * then. New connections flow.
   */
  hold(): void;
  /** Bytes of the server are kept until `mend`. */
  holdAnswers(): void;
  delay(delay_ms: number): void;
  /** Everything flows again. */
  mend(): void;
  stop(): Promise<void>;
}

/** What was kept is heard before the end of its connection, which would take it back. */
const HEARD_MS = 2000;

/** Opens a link from a free port to the given one. */
export async function startProxy(target_port: number): Promise<Proxy> {
  let mode: 'open' | 'cut' | 'hold answers' = 'open';
  let holding = false;
  let held_up_to = 0;
  let opened = 0;
  let delay_ms = 0;
  const sockets = new Set<Socket>();
  const kept: (() => void)[] = [];

  function carry(from: Socket, to: Socket, held: () => boolean): void {
    const pass = (act: () => void, rest_ms = 0): void => {
      const later = (): void => void (delay_ms > 0 ? setTimeout(act, delay_ms) : act());
      if (held()) kept.push(() => void (rest_ms > 0 ? setTimeout(later, rest_ms) : later()));
      else later();
    };
    from.on('data', (chunk: Buffer) => pass(() => void (to.destroyed || to.write(chunk))));
    from.on('end', () => pass(() => void (to.destroyed || to.end()), HEARD_MS));
    from.on('error', () => pass(() => to.destroy(), HEARD_MS));
  }

  const server = createServer({ allowHalfOpen: true }, (client) => {
    if (mode === 'cut') {
      client.resetAndDestroy();
      return;
    }
    const number = ++opened;
    const upstream = connect({ port: target_port, host: '127.0.0.1', allowHalfOpen: true });
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    }
    upstream.on('error', () => client.destroy());
    carry(client, upstream, () => holding && number <= held_up_to);
    carry(upstream, client, () => mode === 'hold answers');
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const reset = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    reset,
    cut() {
      mode = 'cut';
      reset();
    },
    hold() {
      holding = true;
      held_up_to = opened;
    },
    holdAnswers: () => void (mode = 'hold answers'),
    delay: (ms) => void (delay_ms = ms),
    mend() {
      mode = 'open';
      holding = false;
      delay_ms = 0;
      for (const act of kept.splice(0)) act();
    },
    async stop() {
      reset();
      // A socket that is half closed may never end by itself.
      server.close();
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => setImmediate(done));
    },
  };
}
