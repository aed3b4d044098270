/** What `DEBUG=vproxy:*` shows: the events that the log's level leaves out, each under a namespace of its own kind. */
import type { LogEvent } from '../lib/util/log-event.js';

/** The log of the `debug` package. */
export interface DebugLog {
  /** Whether the namespace of an event is enabled. */
  wants(event: LogEvent): boolean;
  /** Writes an event as the `debug` package does. */
  write(event: LogEvent): void;
}

/** The log for the value of `DEBUG`; null where that is empty, and the package is not even loaded. */
export async function openDebugLog(namespaces: string | undefined): Promise<DebugLog | null> {
  if (!namespaces) return null;
  const { default: createDebug } = await import('debug');
  const debuggers = new Map<string, ReturnType<typeof createDebug>>();
  const debuggerOf = ({ event }: LogEvent) => {
    const namespace = `vproxy:${event.split('-')[0] ?? ''}`;
    const known = debuggers.get(namespace) ?? createDebug(namespace);
    debuggers.set(namespace, known);
    return known;
  };
  return {
    wants: (event) => debuggerOf(event).enabled,
    write: (event) => debuggerOf(event)('%s', event.message),
  };
}
