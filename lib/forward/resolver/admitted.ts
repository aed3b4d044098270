/** Removes records with addresses that the egress refuses: else a name could lead to the guest itself or machines around it. */

import type { DnsMessage } from '../../system/dns/dns-message.js';
import { addressesIn, type DnsRecord } from '../../system/dns/resource-records.js';
import { formatAddress } from '../../util/addresses.js';
import { decidingPorts, judgeAddress } from '../egress/admission.js';
import type { EgressRules, Verdict } from '../egress/rules.js';

/** Limit on addresses judged per answer; a SVCB or HTTPS record may have thousands. */
const MAX_ADDRESSES = 512;

/** Records by section. */
type Sections = Pick<DnsMessage, 'answers' | 'authorities'>;

/** The admitted records. */
export interface AdmittedRecords extends Sections {
  /** Why the first missing record was refused; null if none is missing. */
  readonly refused: Verdict | null;
}

/** Returns the records of all sections, except those with an address that `judge` refuses. */
export function admitRecords({ answers, authorities }: Sections, judge: (address: string) => Verdict): AdmittedRecords {
  let refused: Verdict | null = null;
  let addressCount = 0;
  const isAdmitted = (record: DnsRecord): boolean => {
    const addresses = addressesIn(record);
    addressCount += addresses?.length ?? 0;
    const verdict = addressCount > MAX_ADDRESSES ? TOO_MANY : judgeAddresses(addresses, judge);
    if (!verdict.isAllowed) refused ??= verdict;
    return verdict.isAllowed;
  };
  const left = { answers: answers.filter(isAdmitted), authorities: authorities.filter(isAdmitted) };
  return { ...left, refused };
}

const TOO_MANY: Verdict = { isAllowed: false, rule: null, why: `more than ${MAX_ADDRESSES} addresses in one answer` };

function judgeAddresses(addresses: readonly Buffer[] | null, judge: (address: string) => Verdict): Verdict {
  if (addresses === null) return { isAllowed: false, rule: null, why: 'malformed SVCB or HTTPS record' };
  const verdicts = addresses.map((address) => judge(formatAddress(address)));
  return verdicts.find(({ isAllowed }) => !isAllowed) ?? { isAllowed: true, rule: null, why: 'no address is refused' };
}

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
