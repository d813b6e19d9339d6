import type { Namespace } from './Namespace.ts'

/** From one client's machine to the server's: a veth pair with addresses of its own. */
export class Cable {
  readonly serverAddress: { readonly IPv4: string; readonly IPv6: string }
  readonly #client: Namespace

  private constructor(client: Namespace, n: number) {
    this.#client = client
    this.serverAddress = { IPv4: `10.77.${n}.1`, IPv6: `fd77:${n}::1` }
  }

  /** `n`, from 1 to 255, is another for each cable of a server. */
  static async plugIn(server: Namespace, client: Namespace, n: number): Promise<Cable> {
    const hardware = `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`
    const here = `far${n}`
    const peer = ['peer', 'name', 'eth0', 'netns', client.name, 'address', hardware]
    await server.ip('link', 'add', here, 'type', 'veth', ...peer)
    for (const [namespace, device, host] of [
      [server, here, 1],
      [client, 'eth0', 2],
    ] as const) {
      await namespace.ip('address', 'add', `10.77.${n}.${host}/24`, 'dev', device)
      await namespace.ip('address', 'add', `fd77:${n}::${host}/64`, 'dev', device, 'nodad')
      await namespace.ip('link', 'set', device, 'up')
    }
    // A kernel that asks for the neighbour and hears nothing gives up on the connection: a short cut that a router would hide.
    for (const address of [`10.77.${n}.2`, `fd77:${n}::2`]) {
      await server.ip('neigh', 'replace', address, 'lladdr', hardware, 'dev', here, 'nud', 'permanent')
    }
    return new Cable(client, n)
  }

  /** At the client's end: neither side is told. */
  async pull(): Promise<void> {
    await this.#client.ip('link', 'set', 'eth0', 'down')
  }

  async putBack(): Promise<void> {
    await this.#client.ip('link', 'set', 'eth0', 'up')
  }
}
