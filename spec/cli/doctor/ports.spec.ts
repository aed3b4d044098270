/** What `vproxy doctor` finds about: Virtio-serial ports. What only a real port does is in spec/vm/doctor.spec.ts. */
import { PORT_CASES } from './cases/ports.js';
import { runCases } from './run-cases.js';

runCases(PORT_CASES);
