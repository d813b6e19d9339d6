import { describe, expect, test } from 'vitest'
import { parseEnds, unansweredIn } from '../../src/server/kernelTable.ts'

// Rows as Linux 6.18 gave them 7 s after the cable of the clients at 10.99.0.2 and fd00:99::2 was pulled.

const IPV4 = `\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     
   0: 00000000:1B6D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 433809 1 0000000004366014 100 0 0 10 0                    
   1: 0100630A:1B6D 0200630A:D0B6 04 000038B9:00000000 01:00000251 00000005     0        0 0 3 0000000068bbcc83 652 0 0 1 -1                         
   2: 0100007F:B372 0100007F:1B6D 06 00000000:00000000 03:0000150E 00000000     0        0 0 3 00000000968d753d                                      
   3: 0100630A:1B6D 0200630A:D0B2 01 000038B8:00000000 01:0000026A 00000005     0        0 435389 3 000000009853f267 652 0 0 1 -1                    
   4: 0100630A:1B6D 0200630A:D0A6 01 00007774:00000000 01:0000010A 00000004     0        0 435387 3 00000000b0fc28e6 390 0 0 1 -1                    
   3: 0100630A:1B5A 0200630A:BF8E 01 000E9AC8:00000000 04:000001B8 00000000     0        2 198128 3 00000000b5e824d7 22 0 0 138 -1                   
   3: 0100630A:1B6F 0200630A:9C00 01 00000000:00000000 02:0000004B 00000000     0        2 198326 2 00000000babafd98 20 0 0 10 -1                    
`

const IPV6 = `\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1B6E 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 433805 1 000000005e6c915b 100 0 0 10 0
   1: 990000FD000000000000000001000000:1B6E 990000FD000000000000000002000000:BCA4 01 00012170:00000000 01:00000022 00000004     0        0 434604 3 00000000c470a743 371 0 0 1 -1
   2: 990000FD000000000000000001000000:1B6E 990000FD000000000000000002000000:BCAE 04 00004AC5:00000000 01:0000024F 00000005     0        0 0 3 0000000071ef5674 652 0 0 1 -1
   3: 0000000000000000FFFF00000100630A:1B6E 0000000000000000FFFF00000200630A:AC86 01 0000792C:00000000 01:0000024F 00000005     0        0 434550 3 000000000e247062 652 0 0 1 -1
   3: 000080FE00000000FF7F56ACF1FCCAFE:1B63 000080FE00000000FF04AB74CD388AFE:D01C 01 000080E8:00000000 01:00000031 00000004     0        0 198141 3 00000000630ba9a9 326 0 0 1 -1
   4: 990000FD000000000000000001000000:1B64 990000FD000000000000000002000000:9FE2 01 000F5C94:00000000 04:000001B8 00000000     0        2 198132 3 00000000f0d1bd1a 22 0 0 146 -1
`

function found(table: string, port: number): unknown[] {
  return unansweredIn(Buffer.from(table), port).map(({ ends, retransmissions, windowProbes }) => {
    const { localAddress, remoteAddress, remotePort } = parseEnds(ends)
    return [localAddress, remoteAddress, remotePort, retransmissions, windowProbes]
  })
}

describe('the kernel’s table of connections', () => {
  test('tells how often data was sent again on established connections of the port, with IPv4', () => {
    expect(found(IPV4, 0x1b6d)).toEqual([
      ['10.99.0.1', '10.99.0.2', 0xd0b2, 5, 0],
      ['10.99.0.1', '10.99.0.2', 0xd0a6, 4, 0],
    ])
  })

  test('tells it with IPv6, of IPv4 peers and of link-local ones too', () => {
    expect(found(IPV6, 0x1b6e)).toEqual([
      ['fd00:99::1', 'fd00:99::2', 0xbca4, 4, 0],
      ['::ffff:10.99.0.1', '::ffff:10.99.0.2', 0xac86, 5, 0],
    ])
    expect(found(IPV6, 0x1b63)).toEqual([['fe80::ac56:7fff:feca:fcf1', 'fe80::74ab:4ff:fe8a:38cd', 0xd01c, 4, 0]])
  })

  test('tells of probes without an answer where a window is shut, and not of those of keep-alive', () => {
    expect(found(IPV4, 0x1b5a)).toEqual([['10.99.0.1', '10.99.0.2', 0xbf8e, 0, 2]])
    expect(found(IPV6, 0x1b64)).toEqual([['fd00:99::1', 'fd00:99::2', 0x9fe2, 0, 2]])
    expect(found(IPV4, 0x1b6f)).toEqual([])
  })

  test.each([
    ['all is answered', IPV4.replaceAll(/0000000[45] {5}/g, '00000000     ')],
    ['it is empty', IPV4.split('\n', 1)[0] ?? ''],
    ['it is not there', ''],
    ['it is cut off', IPV4.slice(0, IPV4.indexOf('0100630A:1B6D 0200630A:D0B2') + 20)],
    ['it is another', 'one\ntwo: three\n\n\nfour\n'],
    ['its heading is like a row', ` ${IPV4.slice(IPV4.indexOf('0100630A:1B6D 0200630A:D0B2'), IPV4.indexOf('   4:'))}`],
  ])('tells of nothing where %s', (_what, table) => {
    expect(found(table, 0x1b6d)).toEqual([])
  })

  test('may have more rows than its first column has room for', () => {
    expect(found(IPV4.replaceAll(/^ {3}\d/gm, '1234567'), 0x1b6d)).toHaveLength(2)
  })
})
