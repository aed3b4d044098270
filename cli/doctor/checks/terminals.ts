/** What terminals of a peer's commands need. */
import { type Finding, finding } from '../finding.js';
import type { Machine } from '../machine.js';

/** For a side that lets its peer run commands. */
export async function checkTerminals({ options }: Machine): Promise<Finding[]> {
  return (await options.hasKoffi()) ? [] : [finding('koffi-missing', 'koffi cannot be loaded')];
}
