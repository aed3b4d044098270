/** The forwards in the body of a request. */
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, parseForwardSpec } from '../forward/spec.js';
import { inField } from './request-error.js';

/** Reads them from a list of texts; the one that is not valid is named as a field: `outgoing[0]`. */
export function parseForwards(direction: Direction, texts: readonly string[]): ForwardSpec[] {
  return texts.map((text, index) => inField(`${direction}[${index}]`, () => parseForwardSpec(direction, text)));
}
