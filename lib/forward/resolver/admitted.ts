/** Which records of an answer a guest gets: those without an address that the egress refuses. Else a name could lead to the machines around the guest, or to itself. */

import type { DnsMessage } from '../../system/dns/dns-message.js';
import { addressesIn, type DnsRecord } from '../../system/dns/resource-records.js';
import { formatAddress } from '../../util/addresses.js';
import { decidingPorts, judgeAddress } from '../egress/admission.js';
import type { EgressRules, Verdict } from '../egress/rules.js';

/** Addresses that are judged of an answer; a record of services may have thousands. */
const MAX_ADDRESSES = 512;

/** Records by the section that they are in. */
type Sections = Pick<DnsMessage, 'answers' | 'authorities'>;

/** What is left of records. */
export interface AdmittedRecords extends Sections {
  /** Why the first one that is missing was refused; null: none is missing. */
  readonly refused: Verdict | null;
}

/** The records of all sections, without those that have an address that `judge` refuses. */
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

/** Whether a name may be reached at an address, by at least one port; if not, what the first port has against it. */
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
    // What is said of the address says more than that the name is not meant at this port.
    if (refused === null || verdict.why.includes(address)) refused = verdict;
  }
  return refused ?? { isAllowed: false, rule: null, why: 'no entry allows it' };
}
