import { type FastifyInstance, fastify } from 'fastify'
import type { StoreError } from '../store/JobStore.ts'
import { ANSWER_HEADERS } from './access/headers.ts'
import { sendError } from './errors.ts'
import { listenAt } from './listen.ts'
import type { ServerConfig } from './ServerConfig.ts'
import type { ServerLogger } from './ServerLogger.ts'

/**
 * Answers in the place of a server that cannot start yet because its store is not there: it is alive, not ready, and whatever
 * is asked of it is to be asked again later.
 */
export class WaitingServer {
  readonly #config: ServerConfig
  readonly #logger: ServerLogger
  #app: FastifyInstance | undefined
  #url = ''
  #why: StoreError | undefined

  constructor(options: { readonly config: ServerConfig; readonly logger: ServerLogger }) {
    this.#config = options.config
    this.#logger = options.logger
  }

  /** The port that it has or had, which the server that comes after it takes over; undefined where it never listened. */
  get port(): number | undefined {
    return this.#url === '' ? undefined : Number(new URL(this.#url).port || '80')
  }

  /** Settles when it answers; later calls only say why it still has to. @throws {Error} where its address is not free. */
  async open(why: StoreError): Promise<void> {
    const isNews = why.message !== this.#why?.message
    this.#why = why
    if (this.#app === undefined) {
      this.#app = this.#build()
      this.#url = await listenAt(this.#app, this.#config)
    }
    if (isNews) this.#logger.warn({ url: this.#url, why: why.message }, 'the store is not there; it is waited for')
  }

  /** Settles when its address is free again. */
  async close(): Promise<void> {
    const app = this.#app
    this.#app = undefined
    app?.server.closeAllConnections()
    await app?.close()
  }

  #build(): FastifyInstance {
    const app = fastify({ logger: false, exposeHeadRoutes: false, forceCloseConnections: true })
    // As hooks, so that no body is read and no route is missed.
    app.addHook('onRequest', (request, reply, done) => {
      reply.headers(ANSWER_HEADERS)
      const [path] = request.url.split('?', 1)
      if (path === '/health/live') {
        void reply.header('cache-control', 'no-store').send({ live: true, ...this.#checked('process', true) })
      } else if (path === '/health/ready') {
        void reply
          .code(503)
          .header('cache-control', 'no-store')
          .send({ ready: false, ...this.#checked('store', false) })
      } else done(this.#why)
    })
    app.setErrorHandler((error, _request, reply) => sendError(error, reply, this.#logger))
    return app
  }

  /** Who asks is not looked at here: where there is a token, everybody is a stranger, and why is for the log. */
  #checked(name: string, ok: boolean): object {
    return this.#config.apiToken === undefined ? { checks: [{ name, ok }] } : {}
  }
}
