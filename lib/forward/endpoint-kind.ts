/** A kind of endpoint: what one row of the table in `endpoint-kinds.ts` says, and what one file of this folder implements. */
import type { Entrance, EntranceContext } from './entrance.js';
import type { Target, TargetContext } from './target.js';

/** What every endpoint has; its kind adds the rest. */
export interface EndpointBase {
  /** The name of its kind in the table. */
  readonly kind: string;
}

/** Which end of a forward: `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
export type Direction = 'outgoing' | 'incoming';

/** A kind. One without `createTarget` is nothing for `-i`, one without `createEntrance` nothing for `-o`. */
export interface EndpointKind<E extends EndpointBase = EndpointBase> {
  /** Its text with the name before it, for people: `vsock-mux:/path:PORT`. */
  readonly form: Readonly<Partial<Record<Direction, string>>>;
  /** Whether a text that begins with no kind's name is one of this kind. Default: it never is. */
  readonly recognizes?: (text: string) => boolean;
  /** Whether who connects to an `-o` names the service, which is `*` in the forward. Default false. */
  readonly namesService?: boolean;
  /** The endpoint of the text behind `NAME:`. Throws `bad-argument` with what is wrong. */
  parse(text: string, direction: Direction): E;
  /** The text of an endpoint; `parse` reads it back. */
  format(endpoint: E): string;
  /** What serves the streams of an `-i`. Throws `bad-argument`. */
  createTarget?(endpoint: E, context: TargetContext): Target;
  /** What listens for an `-o`. Throws `bad-argument`. */
  createEntrance?(endpoint: E, context: EntranceContext): Entrance;
}

/** A table of kinds by name. A text that no kind recognizes is of the last one. */
export type EndpointKinds = Readonly<Record<string, EndpointKind>>;
