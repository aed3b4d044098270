/** What the doctor is asked to look at: the arguments of the command that runs a proxy, and those of a vproxy that runs. */
import type { Configuration } from '../../lib/settings/configuration.js';

/** What was asked. */
export interface DoctorRequest {
  /** What would be in force with the arguments; null where they name no channel, or are not valid as they are. */
  readonly configuration: Configuration | null;
  /** Key files, also without a channel. */
  readonly keyFiles: readonly string[];
  /** What is wrong with the file or the arguments. */
  readonly problems: readonly string[];
  /** The control socket of a vproxy that was named; null: any. */
  readonly socket: string | null;
  /** Whether nothing was named at all, so that the machine is looked at. */
  readonly isGeneral: boolean;
}
