/** `vproxy.cjs`, for guests that have Node, in place of the project. */
import test from 'ava';

import { makePackage } from './rig/make-package.js';
import { usePackage } from './rig/use-package.js';

usePackage(test, () => makePackage('bundle', 'vproxy.cjs'));
