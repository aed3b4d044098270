/** `resolver:[EGRESS][,server=ADDR]`: answers DNS over datagram flows and streams, from this machine's resolver. */
import type { VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { SessionStream } from '../../session/stream.js';
import { rcodeName } from '../../system/dns/dns-message.js';
import { hostFiles } from '../../system/dns/host-files.js';
import { NameServers } from '../../system/dns/name-servers.js';
import { Budget, TokenBucket } from '../../util/bounds.js';
import { LoopTurns } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import { DatagramFlow } from '../datagram/datagram-flow.js';
import { FlowBook } from '../datagram/flow-book.js';
import { OwnAddresses } from '../egress/networks.js';
import { type EndpointKind, refuseBeyond, type Target, type TargetContext } from '../endpoint-kind.js';
import type { ResolverEndpoint } from '../forms/resolver-form.js';
import { streamFields } from '../forward-log.js';
import { QuestionStream } from './question-stream.js';
import { type Asker, type RefusedQuestion, Resolver } from './resolver.js';

export const resolverEndpoint: EndpointKind<ResolverEndpoint> = {
  createTarget: (endpoint, context) => new ResolverTarget(endpoint, context),
};

/** Questions taken from a peer per second in the long run, with a burst of the same size. */
const QUESTIONS_PER_SECOND = 5000;

/** Limit on questions of flows that wait for their turn; further ones are dropped. */
const MAX_WAITING = 256;

/** Limit on unread answers of all streams, in bytes. */
const MAX_UNREAD_BYTES = 8_388_608;

/** Limit on a name, and on the deciding rule, in a log line. */
const MAX_LOGGED = 300;

/** Answers the questions of all streams and flows of one service, with one cache. */
class ResolverTarget implements Target {
  readonly takes = 'both';
  readonly messages: FlowBook;
  readonly #egress: string;
  readonly #context: TargetContext;
  readonly #bucket: TokenBucket;
  readonly #turns = new LoopTurns();
  readonly #unread = new Budget(MAX_UNREAD_BYTES);
  readonly #servers: NameServers;
  readonly #resolver: Resolver;
  readonly #open = new Set<SessionStream>();
  #waitingCount = 0;

  constructor({ name, servers }: ResolverEndpoint, context: TargetContext) {
    const { clock, egress, names, service } = context;
    const own = new OwnAddresses(clock);
    this.messages = new FlowBook({ clock, onDropped: (counts) => context.log.dropped(counts) });
    this.#egress = name === '' ? service : name;
    this.#context = context;
    this.#bucket = new TokenBucket(QUESTIONS_PER_SECOND, QUESTIONS_PER_SECOND, clock.now());
    this.#servers = new NameServers({ clock, servers: () => servers ?? hostFiles.servers, turns: this.#turns });
    this.#resolver = new Resolver({
      egress: this.#egress,
      rules: () => egress(this.#egress),
      clock,
      ask: (question) => this.#servers.ask(question),
      addressesOf: (host) => hostFiles.addressesOf(host),
      onAddresses: (host, addresses, ttl) => names.learn(this.#egress, host, addresses, ttl),
      ownAddresses: () => own.list(),
      turns: this.#turns,
      onAnswered: (rcode, durationMs) => context.log.tally.questions.add({ result: rcodeName(rcode) }, durationMs),
    });
  }

  get openCount(): number {
    return this.#open.size;
  }

  serve(stream: SessionStream): void {
    const { log, maxStreams } = this.#context;
    if (refuseBeyond(stream, this.#open.size, maxStreams)) return;
    this.#open.add(stream);
    if (stream.isDatagram) this.#serveFlow(stream);
    else this.#serveStream(stream);
    if (!stream.isOver) log.opened(stream);
  }

  #serveFlow(stream: SessionStream): void {
    const { clock } = this.#context;
    const asker = this.#askerOf(stream, 'udp');
    const flow = DatagramFlow.attach(stream, {
      onMessage: (question) => {
        if (this.#waitingCount >= MAX_WAITING || !this.#bucket.take(clock.now())) {
          flow.markUndelivered();
          return;
        }
        this.#waitingCount += 1;
        const answer = (): Promise<Buffer | null> => {
          this.#waitingCount -= 1;
          return this.#resolver.answer(question, asker);
        };
        const answering = this.#turns.run(() => this.#whenRead(answer));
        void answering.then((answer) => answer !== null && flow.send(answer));
      },
      onDropped: () => this.messages.handleDropped(),
      onClosed: (reason) => {
        this.messages.remove(seat, flow);
        this.#closed(stream, reason);
      },
    });
    const seat = this.messages.add(flow);
    flow.accept();
  }

  #serveStream(stream: SessionStream): void {
    const { clock } = this.#context;
    const asker = this.#askerOf(stream, 'tcp');
    const questions = new QuestionStream(stream, {
      clock,
      bucket: this.#bucket,
      turns: this.#turns,
      unread: this.#unread,
      answer: (question) => this.#whenRead(() => this.#resolver.answer(question, asker)),
      onDone: (reason) => this.#closed(stream, reason),
    });
    stream.attach(questions);
    stream.accept();
  }

  /** Runs work of a turn when the hosts file has been read. */
  #whenRead<T>(work: () => Promise<T>): Promise<T> {
    const reading = hostFiles.refresh();
    return reading === null ? work() : reading.then(() => this.#turns.run(work));
  }

  #askerOf(stream: SessionStream, transport: Asker['transport']): Asker {
    return { transport, onRefused: (question) => this.#refused(stream, question) };
  }

  #refused(stream: SessionStream, { name, type, verdict: { rule, why } }: RefusedQuestion): void {
    const { name: target, log } = this.#context;
    const decided = escapeText(rule === null ? why : `${rule}: ${why}`, MAX_LOGGED);
    const message = `stream ${stream.id} to ${target}: refused ${type} of ${escapeText(name, MAX_LOGGED)}: ${decided}`;
    const facts = { ...streamFields(stream), egress: this.#egress, name, type, rule, why };
    log.write(makeEvent('resolver-refused', message, log.fields(facts)));
  }

  #closed(stream: SessionStream, reason: VproxyError | null): void {
    this.#open.delete(stream);
    this.#context.onClosed(stream, reason);
    this.#context.onLeft?.();
  }

  stop(): void {
    this.#servers.stop();
    for (const stream of this.#open) stream.reset('cancelled', 'the resolver was stopped');
    this.messages.stop();
  }
}
