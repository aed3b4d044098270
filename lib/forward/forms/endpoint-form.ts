/** How an endpoint is written: one row of the table in `endpoint-forms.ts`. Needs nothing of what runs it. */
import type { NameSample } from '../template.js';

/** The common part of all endpoints; the kind adds the rest. */
export interface EndpointBase {
  /** The name of its kind in the table. */
  readonly kind: string;
}

/** The direction of a forward: `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
export type Direction = 'outgoing' | 'incoming';

export interface EndpointForm<E extends EndpointBase = EndpointBase> {
  /** As shown to users, with the name in front: `vsock-mux:/path:PORT`. A direction without one cannot be used. */
  readonly form: Readonly<Partial<Record<Direction, string>>>;
  /** Whether a text without the name of a kind is of this kind. Default: never. */
  readonly recognizes?: (text: string) => boolean;
  /** Whether clients of an `-o` name the service, which is `*` in the forward. Default false. */
  readonly namesService?: boolean;
  /** Parses the text after `NAME:`; names in it are valid if their samples are. Throws `bad-argument` with the reason. */
  parse(text: string, direction: Direction, sampleOf: NameSample): E;
  /** The text of an endpoint; `parse` reads it back. */
  format(endpoint: E): string;
}
