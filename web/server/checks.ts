/** Checks of answers: what listens at a socket may not be vproxy, or may be another user's. */
import { VproxyError } from '../../lib/errors.js';
import type { ChannelStatus, ControlStatus, EgressQuestion, MachineInfo } from '../../lib/status/types.js';

/** Returns a status in which everything has the type that the table needs. Throws `control-unavailable`. */
export function checkStatus(value: unknown): ControlStatus {
  try {
    const { process, channels } = value as ControlStatus;
    if (isText(process.name ?? '') && isText(process.version) && isNumber(process.pid) && channels.every(isChannel))
      return value as ControlStatus;
  } catch {
    // Something is missing.
  }
  throw new VproxyError('control-unavailable', 'not a vproxy: its status is not understood');
}

function isChannel({ label, address, state, since, detail, session, history, totals }: ChannelStatus): boolean {
  const texts = [label, address, state, since, detail ?? '', ...history.recent.map(({ code }) => code)];
  const numbers = [history.sessions, totals.sentBytes, totals.receivedBytes];
  if (session !== null) {
    const { agent, name, services } = session.peer;
    texts.push(agent, name ?? '', session.key ?? '', session.tls ?? '', ...services);
    numbers.push(session.streams, session.roundTripMs ?? 0, session.silentMs ?? 0);
  }
  return texts.every(isText) && numbers.every(isNumber);
}

/** The items of a list that are of a channel. Throws `control-unavailable`. */
export function itemsOf<T extends { readonly channel: string }>(label: string, list: unknown): T[] {
  if (!Array.isArray(list)) throw new VproxyError('control-unavailable', 'not a vproxy: its list is not understood');
  return (list as (T | null)[]).filter((item) => item?.channel === label) as T[];
}

/** The questions among values. */
export const questionsIn = (values: unknown): EgressQuestion[] =>
  Array.isArray(values) ? (values as (EgressQuestion | null)[]).filter(isQuestion) : [];

const isQuestion = (one: EgressQuestion | null): one is EgressQuestion =>
  one !== null && [one.id, one.channel, one.egress, one.destination, one.askedAt, one.until].every(isText);

/** Facts of which the table can show all; otherwise null, or an error. */
export function checkFacts(value: unknown): MachineInfo | null {
  const { hostName, kernel, os, load, processors, memory } = value as MachineInfo;
  const texts = [hostName, kernel.name, kernel.release, os?.name ?? ''];
  const numbers = [...load, processors, memory.totalBytes, memory.availableBytes];
  return texts.every(isText) && numbers.every(isNumber) ? (value as MachineInfo) : null;
}

const isText = (value: unknown): boolean => typeof value === 'string';
const isNumber = (value: unknown): boolean => typeof value === 'number';
