/** The effect of a hostile guest on a neighbour on another channel of the process. */
import type { ExecutionContext } from 'ava';
import { FLOODS, INSIDE_TLS } from '../helpers/hostile-guest.js';
import { besideGuest, requireGoodEchoes, startHostile, startNeighbours } from '../helpers/neighbours.js';

const MEASURING = { rounds: 3, echoesPerRound: 100, attempts: 5 };

/** Fails if the echoes of a neighbour take more than twice the quiet time. */
export async function staysQuick(t: ExecutionContext, what: string): Promise<void> {
  const setup = await startNeighbours(t, { isSecured: what === INSIDE_TLS });
  const guest = await startHostile(t, what, setup.folder);
  await requireGoodEchoes(t, setup, besideGuest(setup, guest), { ...MEASURING, isBusy: FLOODS.has(what) });
  // Otherwise the guest did not disturb anything.
  t.is(guest.exitCode, null);
  t.false(setup.vproxy.lines.some((line) => /good: .* ended|internal: /.test(line)));
}
