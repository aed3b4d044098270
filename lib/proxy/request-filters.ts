/** On which channels storage requests get the label of the machine that they come from (docs/storage.md). */
import type { ChannelAddress } from '../channel/address.js';
import type { InputFilters } from '../forward/input-filter.js';
import { RequestLabeller } from '../storage/request-labeller.js';
import { ByteBudget } from '../util/byte-budget.js';
import { DEFAULT_LABEL } from './channel-options.js';
import { STORAGE_SERVICE } from './storage-service.js';

/** What may be held of the requests of one machine. */
const MAX_HELD_BYTES = 64 * 2 ** 20;

/** The filters of a channel: for storage requests, where it has a label and leads to a machine rather than to its host. */
export function requestFilters(label: string, { traits }: ChannelAddress): InputFilters {
  if (label === DEFAULT_LABEL || traits.leadsToHost) return () => null;
  const budget = new ByteBudget(MAX_HELD_BYTES);
  return (service) => (service === STORAGE_SERVICE ? new RequestLabeller(label, budget) : null);
}
