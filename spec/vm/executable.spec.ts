/** The single executable, for guests without Node, in place of the project. */
import test from 'ava';

import { makePackage } from './rig/make-package.js';
import { usePackage } from './rig/use-package.js';

usePackage(test, () => makePackage('sea', 'vproxy-linux-x64'));
