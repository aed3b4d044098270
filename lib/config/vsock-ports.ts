/** What ports mean to those who connect to a hybrid vsock listener, said for all listeners at once. */
import type { ForwardSpec } from '../forward/spec.js';
import type { VsockMuxEndpoint } from '../forward/vsock-mux-endpoint.js';

/** Whether a forward is one of those that ports can be told to. */
export function isHybridListener(spec: ForwardSpec): spec is ForwardSpec & { readonly endpoint: VsockMuxEndpoint } {
  return spec.direction === 'outgoing' && spec.endpoint.kind === 'vsock-mux';
}

/** The forward with `services` by their ports, where it is a hybrid listener; what it says itself stays. */
export function withVsockPorts(spec: ForwardSpec, services: Readonly<Record<number, string>>): ForwardSpec {
  if (!isHybridListener(spec) || Object.keys(services).length === 0) return spec;
  return { ...spec, endpoint: { ...spec.endpoint, services: { ...services, ...spec.endpoint.services } } };
}
