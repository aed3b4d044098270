/** The health of a process, for probes: whether it answers, and whether its channels have sessions. Loads no schemas. */
import { SERVICE_NAME } from '../../codec/limits.js';
import { badArgument, VproxyError } from '../../errors.js';
import { suggestOrList } from '../../util/closest-word.js';
import { escapeText } from '../../util/escape.js';
import { answerError } from '../routes/request-error.js';
import { parseQueryText } from '../server/read-input.js';
import type { ControlContext } from './context.js';

interface HealthContext {
  readonly proxy: Pick<ControlContext['proxy'], 'listReady'>;
  readonly process: Pick<ControlContext['process'], 'ready' | 'isDraining'>;
}

/** An HTTP status, and the line that explains it. */
type Verdict = readonly [status: number, line: string];

/** Limit on the labels in a line: a host may have hundreds of channels. */
const MAX_LABELS = 5;

/** Answers that the process is alive, also while it drains. */
export const answerHealth = (query: string) =>
  answer(() => {
    readQuery(query);
    return [200, 'ok'];
  });

/** Answers whether enough channels have a session, or the one that the query names. */
export const answerReadiness = (context: HealthContext, query: string) => answer(() => judge(context, query));

function judge({ proxy, process: { ready = 'any', isDraining = false } }: HealthContext, query: string): Verdict {
  const { channel, service } = readQuery(query, 'channel', 'service');
  if (service !== undefined && !SERVICE_NAME.test(service))
    throw badArgument(`service: "${escapeText(service, 80)}" is not a valid service name`);
  const all = proxy.listReady(service ?? null);
  const asked = channel === undefined ? all : all.filter(({ label }) => label === channel);
  if (channel !== undefined && asked.length === 0)
    throw new VproxyError('not-found', `channel: no channel "${escapeText(channel, 80)}"`);
  if (isDraining) return [503, 'not ready: draining'];
  const missing = asked.filter(({ isReady }) => !isReady).map(({ label }) => label);
  const count = asked.length - missing.length;
  const needed = ready === 'all' || channel !== undefined ? asked.length : ready === 'any' ? 1 : ready;
  const found = `${service === undefined ? 'session' : `service ${service}`} on ${count} of ${asked.length} channels`;
  if (count >= needed) return [200, `ready: ${found}`];
  const rest = missing.length - MAX_LABELS;
  const labels = [...missing.slice(0, MAX_LABELS), ...(rest > 0 ? [`${rest} more`] : [])].join(', ');
  return [503, `not ready: ${found}, ${needed} needed${labels === '' ? '' : `; none on ${labels}`}`];
}

/** Parses a query with no other keys than these. Throws `bad-argument`. */
function readQuery<Key extends string>(query: string, ...known: readonly Key[]): { readonly [K in Key]?: string } {
  const values = parseQueryText(query);
  const unknown = Object.keys(values).find((key) => !known.some((each) => each === key));
  if (unknown === undefined) return values as { readonly [K in Key]?: string };
  throw badArgument(`${escapeText(unknown, 80)}: unknown field; ${suggestOrList(unknown, known)}`);
}

function answer(find: () => Verdict) {
  let verdict: Verdict;
  try {
    verdict = find();
  } catch (error) {
    const { status, body } = answerError(error);
    verdict = [status, body.error.message];
  }
  const [status, line] = verdict;
  return { status, type: 'text/plain; charset=utf-8', body: `${line}\n` };
}
