/**
 * Completes the text of a channel or a forward: labels, services and kinds before the address, and the options after
 * it, each after a comma.
 */
import type { TextType } from '../../lib/channel/kind.js';
import { cutLabel } from '../../lib/util/labels.js';
import { type Completion, type LiveSource, liveNames, type NamedThing, offer, offerPaths } from './values.js';

/** The context of the cursor. */
export interface AddressContext extends LiveSource {
  /** The channels of the line itself, as given to `-c`. */
  readonly given: readonly string[];
  /** Whether the command is for channels of a running process. */
  readonly isForRunning: boolean;
}

/** Options after a comma, by name. */
type AddressOptions = ReadonlyMap<string, Pick<TextType<unknown>, 'words' | 'isPath'>>;

/** Completes `[LABEL=]KIND:ADDRESS[,key=value…]`. */
export async function completeChannel(value: string): Promise<Completion> {
  const [, label = '', kindName, rest = ''] = /^([a-z0-9._-]+=)?([^:=]*):(.*)$/s.exec(value) ?? [];
  // Loaded only now: they load all kinds of channels.
  const [{ CHANNEL_KINDS }, { optionsOf }] = await Promise.all([
    import('../../lib/channel/kinds.js'),
    import('../../lib/channel/address/options.js'),
  ]);
  if (kindName === undefined) {
    const front = /^[a-z0-9._-]+=/.exec(value)?.[0] ?? '';
    const kinds = [...CHANNEL_KINDS.keys()].map((kind) => `${kind}:`);
    return offer(value, kinds, front);
  }
  const kind = CHANNEL_KINDS.get(kindName);
  const hasCertificates = /,tls=cert(?:,|$)/.test(rest);
  const options = kind === undefined ? [] : [...optionsOf(kind)];
  const fitting = options.filter(([, { isForCertificates = false }]) => hasCertificates || !isForCertificates);
  return completeRest(`${label}${kindName}:`, rest, new Map(fitting.map(([name, { type }]) => [name, type])));
}

/** Completes `[LABEL/]SERVICE:ENDPOINT[,key=value…]`. */
export async function completeForward(
  direction: 'outgoing' | 'incoming',
  value: string,
  context: AddressContext,
): Promise<Completion> {
  const colon = value.indexOf(':');
  if (colon === -1) return offer(value, await forwardNames(direction, value, context));
  const front = value.slice(0, colon + 1);
  const rest = value.slice(colon + 1);
  const { ENDPOINT_FORMS, isEndpointKind } = await import('../../lib/forward/forms/endpoint-forms.js');
  const [, prefix = rest.startsWith('/') ? 'unix' : ''] = /^([a-z][a-z0-9-]*):/.exec(rest) ?? [];
  if (!isEndpointKind(prefix)) {
    const isAny = front === '*:';
    const kinds = Object.entries(ENDPOINT_FORMS).filter(([name, kind]) => {
      const namesService = 'namesService' in kind && direction === 'outgoing';
      return name !== 'tcp' && direction in kind.form && isAny === namesService;
    });
    return offer(value, [...(isAny ? [] : ['127.0.0.1:']), ...kinds.map(([name]) => `${name}:`)], front);
  }
  const forms: Readonly<Partial<Record<'outgoing' | 'incoming', string>>> = ENDPOINT_FORMS[prefix].form;
  const named = rest.startsWith(`${prefix}:`) ? `${prefix}:` : '';
  return completeRest(front + named, rest.slice(named.length), optionsInForm(forms[direction] ?? ''));
}

/** `mode`, `user` and `group` of `unix:/path[,mode=0660][,user=NAME][,group=NAME]`. */
const optionsInForm = (form: string): AddressOptions =>
  new Map(Array.from(form.matchAll(/\[,([a-z]+)=/g), ([, name = '']) => [name, {}]));

/** Names before the colon: services, and channels if there are several. */
async function forwardNames(
  direction: 'outgoing' | 'incoming',
  typed: string,
  { given, isForRunning, ...source }: AddressContext,
): Promise<NamedThing[]> {
  const own = given.flatMap((text) => cutLabel(text, '=')?.label ?? []).map((name) => ({ name, summary: '' }));
  const labels = isForRunning ? await liveNames('channels', source, typed) : own;
  const offered = isForRunning && direction === 'outgoing' ? await liveNames('services', source, typed) : [];
  const services = offered.map(({ name, summary }) => ({ name: `${name}:`, summary }));
  if (labels.length < 2 || source.channel !== undefined) return services;
  return [...labels.map(({ name, summary }) => ({ name: `${name}/`, summary })), ...services];
}

/** Completes the text after the colon: an address, which may be a path, and options. */
function completeRest(front: string, rest: string, options: AddressOptions): Completion {
  // An odd number of commas ends an option; two commas are an escaped one.
  const [, last] = /(?:^|[^,])(?:,,)*,([^,]*)$/s.exec(rest) ?? [];
  if (last === undefined) return rest.startsWith('/') ? offerPaths(front, rest) : offer(front + rest, []);
  const before = front + rest.slice(0, rest.length - last.length);
  const [, name = '', text] = /^([^=]*)=(.*)$/s.exec(last) ?? [];
  if (text === undefined) {
    const left = [...options.keys()].filter((one) => !rest.includes(`,${one}=`)).map((one) => `${one}=`);
    return offer(front + rest, left, before);
  }
  const { words = [], isPath = false } = options.get(name) ?? {};
  if (isPath) return offerPaths(`${before}${name}=`, text);
  return offer(front + rest, words, `${before}${name}=`);
}
