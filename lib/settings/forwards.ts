/** Forwards in a configuration: those of a group are a template, and all hybrid listeners are told what ports mean. */
import { toVproxyError, VproxyError } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, formatForwardSpec, parseForwardSpec } from '../forward/spec.js';
import type { VsockMuxEndpoint } from '../forward/vsock-mux-endpoint.js';
import type { ForwardTemplate } from '../proxy/channel-options.js';

// Forwards of a group, in which `{channel}` stands for the label of each of its channels. Until they are a template again
// they have a word in its place that is valid wherever a label is, so that they are parsed as any other forward.

const PLACEHOLDER = '{channel}';

/** As long as the placeholder, and nothing that anybody would write. */
const STAND_IN = 'x1chann3l';

/** The forward of a text, for a group or for a channel, where `{channel}` means nothing. Throws `bad-argument`. */
export function parseForwardFor(isGroup: boolean, direction: Direction, text: string): ForwardSpec {
  if (!isGroup) return parseForwardSpec(direction, text);
  try {
    return parseForwardSpec(direction, text.replaceAll(PLACEHOLDER, STAND_IN));
  } catch (error) {
    throw new VproxyError('bad-argument', toVproxyError(error).message.replaceAll(STAND_IN, PLACEHOLDER));
  }
}

/** What the group is given in the place of such a forward. */
export function toTemplate(spec: ForwardSpec): ForwardTemplate {
  return { direction: spec.direction, text: formatForwardSpec(spec).replaceAll(STAND_IN, PLACEHOLDER) };
}

/** Whether a forward is one of those that ports can be told to. */
export function isHybridListener(spec: ForwardSpec): spec is ForwardSpec & { readonly endpoint: VsockMuxEndpoint } {
  return spec.direction === 'outgoing' && spec.endpoint.kind === 'vsock-mux';
}

/** The forward with `services` by their ports, where it is a hybrid listener; what it says itself stays. */
export function withVsockPorts(spec: ForwardSpec, services: Readonly<Record<number, string>>): ForwardSpec {
  if (!isHybridListener(spec) || Object.keys(services).length === 0) return spec;
  return { ...spec, endpoint: { ...spec.endpoint, services: { ...services, ...spec.endpoint.services } } };
}
