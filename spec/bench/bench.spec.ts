/** What of the benchmarks, their reports and their drawings needs no process. */
import './axes.js';
import './documents.js';
import './ledger.js';
import './options.js';
import './plot.js';
import './report.js';
import './vm.js';
