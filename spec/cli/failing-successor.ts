/** A successor that fails at a message of its predecessor: its arguments are which message (`check` or `take`), and how it fails. */
import { writeSync } from 'node:fs';
import { HANDOVER_FORM } from '../../cli/upgrade/form.js';
import { HandoverPipe, loadHandoverCalls } from '../../lib/system/handover-pipe.js';

const PIPE = 3;
const TIMEOUT_MS = 20_000;
const [, , at = '', how = ''] = process.argv;
const pipe = new HandoverPipe(await loadHandoverCalls(), PIPE);

function fail(): never {
  if (how === 'failure') pipe.sendMessage({ failure: `no ${at} today` }, TIMEOUT_MS);
  if (how === 'rubbish') writeSync(PIPE, 'this is no message');
  process.exit(3);
}

pipe.sendMessage({ form: HANDOVER_FORM, version: 'vproxy 0' }, TIMEOUT_MS);
pipe.receiveAll(TIMEOUT_MS);
if (at === 'check') fail();
pipe.sendMessage({ checked: true }, TIMEOUT_MS);
pipe.receiveAll(TIMEOUT_MS);
fail();
