/** Forwards in a configuration: those of a group are a template, and all hybrid listeners are told what ports mean. */
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, formatForwardSpec, parseForwardSpec, parseForwardTemplate } from '../forward/spec.js';
import type { VsockMuxEndpoint } from '../forward/vsock-mux-endpoint.js';
import type { ForwardTemplate } from '../proxy/channel-options.js';

/** The forward of a text, for a group or for a channel, where `{channel}` means nothing. Throws `bad-argument`. */
export function parseForwardFor(isGroup: boolean, direction: Direction, text: string): ForwardSpec {
  return isGroup ? parseForwardTemplate(direction, text) : parseForwardSpec(direction, text);
}

/** What the group is given in the place of such a forward. */
export function toTemplate(spec: ForwardSpec): ForwardTemplate {
  return { direction: spec.direction, text: formatForwardSpec(spec) };
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
