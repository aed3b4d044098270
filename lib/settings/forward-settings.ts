/** Forwards in a configuration. Those of a group are a template. */
import type { Direction } from '../forward/forms/endpoint-form.js';
import { type ForwardSpec, parseForwardSpec, parseForwardTemplate } from '../forward/spec.js';
import type { SettingWithin } from './setting.js';
import { list, text, type ValueType } from './value-type.js';

/** Parses a forward for a group, or for a channel, where `{channel}` has no meaning. Throws `bad-argument`. */
export function parseForwardFor(isGroup: boolean, direction: Direction, text: string): ForwardSpec {
  return isGroup ? parseForwardTemplate(direction, text) : parseForwardSpec(direction, text);
}

/** Not parsed here: that takes the other settings of their channel. */
function forwardTexts(example: string): ValueType<readonly string[]> {
  return list(text(`a string, such as "${example}"`), `a list of strings, such as ["${example}"]`);
}

export const OUTGOING = {
  key: 'outgoing',
  field: 'outgoing',
  type: forwardTexts('ssh:127.0.0.1:9022'),
  fallback: [],
  options: {
    short: 'o',
    value: 'FORWARD',
    isRepeatable: true,
    group: 'Forwards:',
    help: "listen here for the peer's SERVICE",
    forms: [
      '[LABEL/]SERVICE:ADDR:PORT',
      'SERVICE:PORT',
      'SERVICE:/path',
      'SERVICE:udp:ADDR:PORT',
      'SERVICE:unixgram:/path',
      '*:vsock-mux:/path[,PORT=SERVICE…]',
      'SERVICE:redirect:ADDR:PORT',
    ],
    ofAddition: { help: 'Listen here for a service of its peer' },
  },
  about: 'Forwards as -o takes them',
  reload: 'now',
} as const satisfies SettingWithin<'forwards', readonly string[]>;

export const INCOMING = {
  key: 'incoming',
  field: 'incoming',
  type: forwardTexts('web:127.0.0.1:8080'),
  fallback: [],
  options: {
    short: 'i',
    value: 'FORWARD',
    isRepeatable: true,
    group: 'Forwards:',
    help: 'offer SERVICE to the peer',
    forms: [
      '[LABEL/]SERVICE:ADDR:PORT',
      'SERVICE:PORT',
      'SERVICE:/path',
      'SERVICE:vsock-mux:/path:PORT',
      'SERVICE:file:/path',
      'SERVICE:exec:COMMAND',
      'SERVICE:egress:[NAME]',
      'SERVICE:origin:https://HOST,allow=METHOD:/PATH',
      'SERVICE:resolver:[NAME]',
      'SERVICE:udp:ADDR:PORT',
      'SERVICE:unixgram:/path',
    ],
    ofAddition: { help: 'Offer a service to its peer' },
  },
  about: 'Forwards as -i takes them',
  reload: 'now',
} as const satisfies SettingWithin<'forwards', readonly string[]>;
