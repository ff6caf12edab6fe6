import { pino, type Logger } from 'pino';

/** Structured logs, one line per thing that happened. Secrets are cut out wherever they might stand. */
export function createLog(level: string): Logger {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: {
      paths: [
        'api_key',
        'password',
        'macaroon',
        'preimage',
        'headers',
        '*.api_key',
        '*.password',
        '*.macaroon',
        'err.config',
        'err.parameters',
      ],
      censor: '[secret]',
    },
  });
}
