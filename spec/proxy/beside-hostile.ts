/** What a neighbour notices of a hostile guest on another channel of its process. */
import type { ExecutionContext } from 'ava';
import { FLOODS, INSIDE_TLS } from '../helpers/hostile-guest.js';
import { besideGuest, requireGoodEchoes, startHostile, startNeighbours } from '../helpers/neighbours.js';

const MEASURING = { rounds: 3, echoesPerRound: 100, attempts: 5 };

/** Fails where the echoes of a neighbour take more than twice the quiet time. */
export async function staysQuick(t: ExecutionContext, what: string): Promise<void> {
  const setup = await startNeighbours(t, { isSecured: what === INSIDE_TLS });
  const guest = await startHostile(t, what, setup.folder);
  await requireGoodEchoes(t, setup, besideGuest(setup, guest), { ...MEASURING, isBusy: FLOODS.has(what) });
  // Otherwise the guest has not disturbed anything.
  t.is(guest.exitCode, null);
  t.false(setup.vproxy.lines.some((line) => /good: .* ended|internal: /.test(line)));
}
