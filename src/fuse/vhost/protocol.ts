/**
 * The vhost-user protocol (docs/interop/vhost-user.rst of QEMU) and virtio's split rings: what a file system
 * needs of them. All numbers are little-endian; lengths are in bytes.
 */

/** Header of a message: request u32, flags u32, length of the payload u32. */
export const HEADER_LENGTH = 12;
/** The longest payload taken. The longest known are memory tables: 8 bytes and 32 for each region. */
export const MAX_PAYLOAD = 4096;

export const REQUEST = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
} as const;

/** Bits of a message's flags: its version, whether it is a reply, whether it wants one. */
export const FLAG = { VERSION: 1, VERSION_MASK: 3, REPLY: 1 << 2, NEED_REPLY: 1 << 3 } as const;

/** Features of a device, by bit. */
export const FEATURE = { INDIRECT_DESC: 28, PROTOCOL_FEATURES: 30, VERSION_1: 32 } as const;
/** Features of the protocol, by bit. */
export const PROTOCOL_FEATURE = { MQ: 0, REPLY_ACK: 3, RESET_DEVICE: 13, CONFIGURE_MEM_SLOTS: 15 } as const;

export const FEATURES =
  (1n << BigInt(FEATURE.VERSION_1)) |
  (1n << BigInt(FEATURE.PROTOCOL_FEATURES)) |
  (1n << BigInt(FEATURE.INDIRECT_DESC));
export const PROTOCOL_FEATURES =
  (1n << BigInt(PROTOCOL_FEATURE.MQ)) |
  (1n << BigInt(PROTOCOL_FEATURE.REPLY_ACK)) |
  (1n << BigInt(PROTOCOL_FEATURE.RESET_DEVICE)) |
  (1n << BigInt(PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS));

/** Length of a memory region in a message: guest address, length, address in the front end, offset in the file. */
export const REGION_LENGTH = 32;
/** Where the first region stands in a message with some. */
export const REGIONS_AT = 8;
/** Set in the payload of KICK, CALL and ERR when no descriptor comes with it. */
export const NO_DESCRIPTOR = 1 << 8;
export const QUEUE_INDEX_MASK = 0xff;

/** Queues of a device at most: the one for what is urgent, and those for requests. */
export const MAX_QUEUES = 64;
/** Regions of memory at most. */
export const MAX_REGIONS = 64;

/** A descriptor: address u64, length u32, flags u16, next u16. */
export const DESCRIPTOR_LENGTH = 16;
export const DESCRIPTOR = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;
/** Entries of a ring at most, as virtio has it. */
export const MAX_RING = 1 << 15;
/** In the flags of the available ring: the driver wants no interrupts; of the used ring: we want no kicks. */
export const RING_QUIET = 1;
