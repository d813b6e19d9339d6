import { SocketAddress } from 'node:net'
import { endianness } from 'node:os'

/** The tables of the kernel's connections, by the family of the socket that listens; IPv4 peers of an IPv6 socket stand in its. */
export const KERNEL_TABLES = { IPv4: '/proc/net/tcp', IPv6: '/proc/net/tcp6' } as const

/** A connection on which the kernel sent something to which nothing has answered for longer than it should. */
export interface UnansweredConnection {
  /** Both ends as the table writes them, which names the connection for as long as it lives. */
  readonly ends: string
  /** How often the oldest data without an answer was sent again; any progress makes it 0. */
  readonly retransmissions: number
  /** How many probes had no answer that ask whether the other side has room again; an answer, also "no room", makes it 0. */
  readonly windowProbes: number
}

/** Both ends of a connection as `net.Socket` names them, without the zone of a link-local address. */
export interface ConnectionEnds {
  readonly localAddress: string
  readonly remoteAddress: string
  readonly remotePort: number
}

const NEWLINE = 0x0a
const SPACE = 0x20
const COLON = 0x3a
const IPV4_DIGITS = 8
const IPV6_DIGITS = 32
const PORT_DIGITS = 4

/** Column `st`: neither end has closed it. What we have destroyed goes on for a while without us, in other states. */
const ESTABLISHED = 1

/** Of the timers in column `tr`, the one that probes a window that is shut; keep-alive counts its probes in the same column. */
const WINDOW_PROBE_TIMER = 4

/**
 * The established connections of `localPort` in `table` on which something is unanswered. A row reads
 * `sl: LOCAL:PORT REMOTE:PORT st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout …`, where `timeout` holds the probes
 * (`get_tcp4_sock` in the kernel's net/ipv4/tcp_ipv4.c, `get_tcp6_sock` in net/ipv6/tcp_ipv6.c). There may be tens of thousands
 * of rows, most of them of no interest, so they are read where they lie, and only those of interest become text.
 */
export function unansweredIn(table: Buffer, localPort: number): UnansweredConnection[] {
  const found: UnansweredConnection[] = []
  // The first line is the heading.
  for (let newline = table.indexOf(NEWLINE); newline !== -1; newline = table.indexOf(NEWLINE, newline + 1)) {
    const local = table.indexOf(COLON, newline) + 2
    // Below the last line.
    if (local === 1) break
    const digits = table[local + IPV4_DIGITS] === COLON ? IPV4_DIGITS : IPV6_DIGITS
    if (hexAt(table, local + digits + 1, PORT_DIGITS) !== localPort) continue
    const afterEnds = local + 2 * (digits + 1 + PORT_DIGITS) + 1
    if (hexAt(table, afterEnds + 1, 2) !== ESTABLISHED) continue
    const timer = afterEnds + ' st tx_queue:rx_queue '.length
    const retransmissions = hexAt(table, timer + 'tr tm->when '.length, 8)
    const isProbing = hexAt(table, timer, 2) === WINDOW_PROBE_TIMER
    const windowProbes = isProbing ? secondNumberAt(table, timer + 'tr tm->when retrnsmt'.length) : 0
    if (retransmissions === 0 && windowProbes === 0) continue
    found.push({ ends: table.toString('latin1', local, afterEnds), retransmissions, windowProbes })
  }
  return found
}

export function parseEnds(ends: string): ConnectionEnds {
  const [local = '', remote = ''] = ends.split(' ')
  const [address = '', port = ''] = remote.split(':')
  return {
    localAddress: parseAddress(local.slice(0, -PORT_DIGITS - 1)),
    remoteAddress: parseAddress(address),
    remotePort: Number.parseInt(port, 16),
  }
}

/** The kernel writes an address as numbers of 32 bits in its own order of bytes. */
function parseAddress(digits: string): string {
  const bytes = Buffer.from(digits, 'hex')
  if (endianness() === 'LE') bytes.swap32()
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, n) => bytes.readUInt16BE(2 * n).toString(16))
  // In its short form, which is how sockets name it.
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address
}

function hexAt(table: Buffer, at: number, digits: number): number {
  let value = 0
  for (let n = at; n < at + digits; n += 1) {
    const code = table[n] ?? 0
    value = value * 16 + (code > COLON ? code - 0x37 : code - 0x30)
  }
  return value
}

/** The second of the decimal numbers that follow, each with any number of spaces before it. */
function secondNumberAt(table: Buffer, at: number): number {
  let n = at
  while (table[n] === SPACE) n += 1
  while (isDigit(table[n])) n += 1
  while (table[n] === SPACE) n += 1
  let value = 0
  for (let code = table[n]; isDigit(code); code = table[n]) {
    value = value * 10 + code - 0x30
    n += 1
  }
  return value
}

function isDigit(code: number | undefined): code is number {
  return code !== undefined && code >= 0x30 && code < COLON
}
