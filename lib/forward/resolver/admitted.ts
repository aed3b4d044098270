/** Removes records with addresses that the egress refuses: else a name could lead to the guest itself or machines around it. */

import type { DnsMessage } from '../../system/dns/dns-message.js';
import { addressesIn, type DnsRecord } from '../../system/dns/resource-records.js';
import { formatAddress } from '../../util/addresses/host-port.js';
import type { LoopTurns } from '../../util/concurrency.js';
import { decidingPorts, judgeAddress } from '../egress/admission.js';
import type { EgressRules, Verdict } from '../egress/rules.js';

/** Limit on addresses judged per answer; a SVCB or HTTPS record may have thousands. */
const MAX_ADDRESSES = 512;

type Sections = Pick<DnsMessage, 'answers' | 'authorities'>;

export interface AdmittedRecords extends Sections {
  /** Why the first missing record was refused; null if none is missing. */
  readonly refused: Verdict | null;
}

/** The records of all sections, except those with an address that `judge` refuses: each takes one of the turns. */
export async function admitRecords(
  { answers, authorities }: Sections,
  judge: (address: string) => Verdict,
  turns: LoopTurns,
): Promise<AdmittedRecords> {
  let refused: Verdict | null = null;
  let addressCount = 0;
  const isAdmitted = async (record: DnsRecord): Promise<boolean> => {
    const addresses = addressesIn(record);
    addressCount += addresses?.length ?? 0;
    let verdict = addresses === null ? MALFORMED : addressCount > MAX_ADDRESSES ? TOO_MANY : ADMITTED;
    for (const address of addresses ?? []) {
      if (!verdict.isAllowed) break;
      // With hundreds of rules it takes a millisecond.
      const turn = turns.nextTurn();
      if (turn !== null) await turn;
      verdict = judge(formatAddress(address));
    }
    if (!verdict.isAllowed) refused ??= verdict;
    return verdict.isAllowed;
  };
  const admit = async (records: readonly DnsRecord[]): Promise<DnsRecord[]> => {
    const admitted: DnsRecord[] = [];
    for (const record of records) if (await isAdmitted(record)) admitted.push(record);
    return admitted;
  };
  const left = { answers: await admit(answers), authorities: await admit(authorities) };
  return { ...left, refused };
}

const ADMITTED: Verdict = { isAllowed: true, rule: null, why: 'no address is refused' };
const MALFORMED: Verdict = { isAllowed: false, rule: null, why: 'malformed SVCB or HTTPS record' };
const TOO_MANY: Verdict = { isAllowed: false, rule: null, why: `more than ${MAX_ADDRESSES} addresses in one answer` };

/** Whether a name may be reached at an address on at least one port; if not, the first port's reason. */
export function judgeAtSomePort(
  rules: EgressRules,
  host: string,
  address: string,
  isOwn: (address: string) => boolean,
): Verdict {
  let refused: Verdict | null = null;
  for (const port of decidingPorts(rules)) {
    const verdict = judgeAddress(rules, { host, family: 0, port }, address, isOwn);
    if (verdict.isAllowed) return verdict;
    // A reason about the address says more than that the name is not allowed on this port.
    if (refused === null || verdict.why.includes(address)) refused = verdict;
  }
  return refused ?? { isAllowed: false, rule: null, why: 'no entry allows it' };
}
