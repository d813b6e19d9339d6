import { type FastifyInstance, type FastifyServerOptions, fastify } from 'fastify'
import { onTestFinished } from 'vitest'
import { type TetherPluginOptions, tether } from '../../src/index.ts'
import { temporaryFolder } from '../world.ts'

/** Somebody's own app, as Fastify makes it by default, which is closed after the test. */
export function hostApp(options: FastifyServerOptions = {}): FastifyInstance {
  const app = fastify(options)
  onTestFinished(() => app.close())
  return app
}

/** Registers Tether with a new folder of its own. */
export async function addTether(
  app: FastifyInstance,
  options: TetherPluginOptions & { readonly prefix: string },
): Promise<void> {
  const settings = { DATA_DIR: await temporaryFolder(), CONTAINMENT: 'group', ...options.settings }
  app.register(tether, { ...options, settings })
}

/** Where it listens. */
export async function listening(app: FastifyInstance): Promise<string> {
  return app.listen({ host: '127.0.0.1', port: 0 })
}
