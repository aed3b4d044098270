/** Rules, texts and answers, without a proxy: in one process. */
import './egress/admission.js';
import './egress/kept-origins.js';
import './egress/networks.js';
import './egress/rules.js';
import './endpoint-kinds.js';
import './resolver/cache.js';
import './resolver/resolver.js';
import './service-policy.js';
import './specs.js';
