//! Histories told by hand, in steps as `script.rs` reads them: where the fuzzer begins, and what
//! every run of the tests replays. Each leads to a promise that few random histories reach.

use super::script::op::*;

/// A name, which is the corpus file's too, and its steps.
type Story = (&'static str, &'static [&'static [&'static [u8]]]);

/// An application, a profile, a device.
const DEVICE: &[&[u8]] =
    &[&[PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 0], &[PUT_DEVICE, 0, 1, 0]];
/// The device is personalised: next uplink 8, next downlink 5.
const SESSION: &[&[u8]] = &[&[ACTIVATE, 0, 0, 5]];
const NEW_UPLINK: &[u8] = &[UPLINK, 0, 8, 0, 0];
const ACK_UPLINK: &[u8] = &[UPLINK, 0, 0b10_1000, 0, 0];
const PLAN_NEXT: &[u8] = &[PLAN, 0, 8, 0];
/// Two accounts, one for all and one for the application, and a session of each.
const CLIENTS: &[&[u8]] = &[
    &[PUT_ACCOUNT, 0, 1, 0],
    &[PUT_ACCOUNT, 1, 1, 3],
    &[OPEN, 0, 0],
    &[OPEN, 1, 0b11],
    &[SUBSCRIBE, 0, 0, 0, 0],
    &[SUBSCRIBE, 1, 0, 3, 0],
];

/// Every story.
#[rustfmt::skip]
const STORIES: &[Story] = &[
    ("uplink_once", &[DEVICE, SESSION, &[
        NEW_UPLINK, &[UPLINK, 0, 8, 6, 0], &[UPLINK, 0, 24, 6, 0], &[UPLINK, 0, 8, 0b10_0110, 0],
        &[UPLINK, 0, 8, 8, 0], NEW_UPLINK, &[RETRY, 0], &[RETRY, 2], &[UPLINK, 0, 3, 0, 0], &[CUT],
        &[UPLINK, 0, 8, 12, 1], &[UPLINK, 0, 0, 15, 0b1110_0010], NEW_UPLINK,
    ]]),
    ("uplink_gap_and_reset", &[DEVICE, &[
        &[ACTIVATE, 0, 4, 0], NEW_UPLINK, &[UPLINK, 0, 8, 12, 0], &[UPLINK, 0, 8, 11, 0],
        &[PUT_DEVICE, 0, 0b110, 0], &[UPLINK, 0, 8, 9, 0], &[UPLINK, 0, 8, 0b10_0110, 0], &[CUT],
        &[DEACTIVATE, 0], &[ACTIVATE, 0, 4, 0], &[UPLINK, 0, 0, 9, 0],
    ]]),
    ("join_twice", &[DEVICE, SESSION, &[
        &[JOIN, 0, 0, 0], &[SET_KEYS, 0, 1], &[JOIN, 0, 0, 2], &[JOIN, 0, 0, 0], &[JOIN, 0, 4, 0],
        &[RETRY, 0], &[RETRY, 1], &[ENQUEUE, 0, 0, 1, 0], &[ENQUEUE, 0, 1, 0, 0], PLAN_NEXT, &[CUT],
        &[UPLINK, 0, 2, 0, 0], NEW_UPLINK, &[JOIN, 0, 0, 3], &[JOIN, 0, 0, 0], &[FLUSH_NONCES, 0],
        &[JOIN, 0, 14, 0],
    ]]),
    ("member_comes_and_goes", &[&[
        &[ADMIT, 1, 0], &[STATUS, 1, 1], &[BOOT, 0, 0, 1], &[ADMIT, 2, 0], &[CUT], &[STATUS, 2, 4],
        &[ADMIT, 2, 0b11_0000], &[STATUS, 2, 1], &[STATUS, 1, 3], &[STATUS, 1, 1], &[STATUS, 1, 6],
        &[CUT], &[STATUS, 1, 1], &[STATUS, 2, 6], &[STATUS, 0, 6], &[STATUS, 0, 3],
    ]]),
    ("member_asks_twice_at_once", &[&[
        &[BATCH, 0, ADMIT, 1, 0, ADMIT, 1, 0], &[CUT], &[ADMIT, 1, 0], &[ADMIT, 1, 0b1_0000],
        &[BATCH, 0, ADMIT, 2, 0, ADMIT, 3, 0],
    ]]),
    ("too_many_members", &[&[
        &[BURST, 12, ADMIT, 1, 0], &[ADMIT, 1, 0], &[ADMIT, 2, 0], &[ADMIT, 3, 0], &[ADMIT, 4, 0],
        &[ADMIT, 5, 0], &[ADMIT, 6, 0], &[ADMIT, 7, 0], &[ADMIT, 8, 0], &[ADMIT, 9, 0],
        &[ADMIT, 9, 0b11_0000], &[ADMIT, 1, 1], &[CUT],
    ]]),
    ("join_below_1_0_4", &[&[
        &[PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 1], &[PUT_DEVICE, 0, 0b11_0001, 0],
        &[JOIN, 0, 0b100_1110, 0], &[JOIN, 0, 0b10_0110, 0], &[JOIN, 0, 5, 0], &[JOIN, 0, 4, 0],
        &[JOIN, 0, 6, 4], &[CUT], &[UPLINK, 0, 2, 0, 0],
    ]]),
    ("join_nonce_goes_on", &[DEVICE, &[
        &[SET_KEYS, 0, 1], &[JOIN, 0, 0, 0], &[JOIN, 0, 0, 0], &[DELETE_KEYS, 0], &[DELETE_KEYS, 0],
        &[SET_KEYS, 0, 1], &[JOIN, 0, 6, 0], &[DELETE_DEVICE, 0], &[PUT_DEVICE, 0, 1, 0],
        &[SET_KEYS, 0, 5], &[JOIN, 0, 6, 0], &[SET_KEYS, 0, 2], &[CUT], &[JOIN, 0, 0, 0],
        &[UPLINK, 0, 2, 0, 0],
    ]]),
    ("join_nonce_ends", &[&[
        &[PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 0], &[PUT_DEVICE, 0, 0b1110_0001, 0],
        &[JOIN, 0, 0, 0], &[JOIN, 0, 0, 0],
    ]]),
    ("join_refused", &[&[
        &[PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 0b1_0000], &[PUT_DEVICE, 0, 0b11_0001, 0],
        &[JOIN, 0, 0, 0], &[PUT_PROFILE, 0, 2, 0b1100], &[JOIN, 0, 0, 0],
        &[PUT_PROFILE, 0, 2, 0b1000], &[JOIN, 0, 0, 4], &[JOIN, 0, 0, 0],
        &[PUT_DEVICE, 0, 0b1010, 128], &[JOIN, 0, 0, 0],
    ]]),
    ("queue_in_order", &[DEVICE, SESSION, &[
        &[ENQUEUE, 0, 0, 0, 0], &[ENQUEUE, 0, 1, 0, 0], &[ENQUEUE, 0, 1, 0, 0],
        &[ENQUEUE, 0, 2, 0, 0], NEW_UPLINK, PLAN_NEXT, &[RETRY, 0], &[CANCEL_ITEM, 0, 0], PLAN_NEXT,
        &[CUT], &[TX_ACK, 0, 0, 0], &[RETRY, 0], &[TX_ACK, 0, 8, 1], NEW_UPLINK, PLAN_NEXT,
        PLAN_NEXT, &[CANCEL_ITEM, 0, 2], NEW_UPLINK,
    ]]),
    ("queue_confirmed", &[DEVICE, SESSION, &[
        NEW_UPLINK, &[ENQUEUE, 0, 0, 1, 0], &[ENQUEUE, 0, 1, 1, 0], &[ENQUEUE, 0, 2, 0, 0],
        PLAN_NEXT, PLAN_NEXT, &[TX_ACK, 0, 8, 0], ACK_UPLINK, PLAN_NEXT, &[TX_ACK, 0, 8, 1],
        &[TX_ACK, 0, 8, 2], PLAN_NEXT, NEW_UPLINK, &[ENQUEUE, 0, 3, 1, 0], PLAN_NEXT, NEW_UPLINK,
    ]]),
    ("queue_confirmed_in_time", &[&[
        &[PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 0b10_0000], &[PUT_DEVICE, 0, 1, 0],
        &[ACTIVATE, 0, 0, 5], &[ENQUEUE, 0, 0, 1, 0], PLAN_NEXT, &[CLOCK, 0, 0], NEW_UPLINK,
        &[CLOCK, 4, 0], &[CLOCK, 4, 0], NEW_UPLINK, &[CLOCK, 5, 0], &[CLOCK, 4, 0], NEW_UPLINK,
    ]]),
    ("queue_drops", &[DEVICE, SESSION, &[
        &[ENQUEUE, 0, 0, 0b1_0000, 0], &[ENQUEUE, 0, 1, 0, 0b1000],
        &[ENQUEUE, 0, 2, 0b1110_0000, 0], &[ENQUEUE, 0, 3, 0b1010_0000, 0],
        &[ENQUEUE, 0, 4, 0b1000_0000, 0], &[PLAN, 0, 0b10_1000, 0], &[PLAN, 0, 8, 0b1_1000],
        &[PLAN, 0, 8, 4], &[CUT], &[ENQUEUE, 0, 0, 0b1100_0001, 0],
        &[ENQUEUE, 0, 1, 0b1000_0000, 0], PLAN_NEXT, ACK_UPLINK, PLAN_NEXT,
        &[ENQUEUE, 0, 0, 0b1_1000, 0], &[ENQUEUE, 0, 0, 0, 2], &[ENQUEUE, 0, 0, 0, 3],
    ]]),
    ("queue_fits_beside_answers", &[DEVICE, SESSION, &[
        &[ENQUEUE, 0, 0, 0b1100, 0], &[PLAN, 0, 8, 0b1_1000], &[PLAN, 0, 8, 0b10_0000], PLAN_NEXT,
    ]]),
    ("queue_imported", &[DEVICE, SESSION, &[
        &[ENQUEUE, 0, 0, 0, 0xE0], &[ENQUEUE, 0, 1, 1, 0xE0], &[ENQUEUE, 0, 2, 1, 0xF0],
        &[ENQUEUE, 0, 3, 0, 0xF0], PLAN_NEXT, &[FLUSH_QUEUE, 0], &[CANCEL_ITEM, 0, 1], ACK_UPLINK,
        &[ENQUEUE, 0, 1, 1, 0xE0], &[TX_ACK, 0, 1, 2], &[ENQUEUE, 0, 2, 0, 0], &[FLUSH_QUEUE, 0],
    ]]),
    ("queue_is_bounded", &[DEVICE, SESSION, &[
        &[BURST, 255, ENQUEUE, 0, 0, 0, 0], &[BURST, 3, ENQUEUE, 0, 1, 0, 0], PLAN_NEXT,
        &[FLUSH_QUEUE, 0],
    ]]),
    ("activation_ends_flights", &[DEVICE, SESSION, &[
        &[ENQUEUE, 0, 0, 1, 0], &[ENQUEUE, 0, 1, 0b1000_0000, 0], &[ENQUEUE, 0, 2, 0, 0], PLAN_NEXT,
        &[ACTIVATE, 0, 0, 0], PLAN_NEXT, &[DEACTIVATE, 0], &[DEACTIVATE, 0],
        &[PUT_PROFILE, 0, 0b1010, 0], &[ENQUEUE, 0, 3, 0, 0], &[ACTIVATE, 0, 1, 0],
    ]]),
    ("first_uplink_ends_flights", &[DEVICE, SESSION, &[
        &[SET_KEYS, 0, 1], &[ENQUEUE, 0, 0, 0, 0], PLAN_NEXT, &[JOIN, 0, 0, 0],
        &[UPLINK, 0, 2, 0, 0], &[ENQUEUE, 0, 1, 1, 0], PLAN_NEXT, &[JOIN, 0, 0, 8],
        &[UPLINK, 0, 2, 0, 0],
    ]]),
    ("numbers_go_on", &[DEVICE, SESSION, &[
        NEW_UPLINK, NEW_UPLINK, &[BOOT, 0, 0], NEW_UPLINK, &[DEACTIVATE, 0], &[ACTIVATE, 0, 0, 0],
        NEW_UPLINK, &[CUT], &[DELETE_DEVICE, 0], &[PUT_DEVICE, 0, 1, 0], &[ACTIVATE, 0, 0, 0],
        NEW_UPLINK, &[ACTIVATE, 0, 1, 0], &[ACTIVATE, 0, 0, 0], NEW_UPLINK,
    ]]),
    ("numbers_go_on_after_an_import", &[DEVICE, &[
        &[ACTIVATE, 0, 2, 5], NEW_UPLINK, NEW_UPLINK, &[DEACTIVATE, 0], &[ACTIVATE, 0, 2, 5],
        NEW_UPLINK,
    ]]),
    ("numbers_go_on_after_a_join", &[DEVICE, SESSION, &[
        &[SET_KEYS, 0, 1], NEW_UPLINK, &[JOIN, 0, 0, 8], NEW_UPLINK, &[UPLINK, 0, 2, 0, 0],
        &[ACTIVATE, 0, 0, 0], NEW_UPLINK,
    ]]),
    ("numbers_end", &[DEVICE, &[
        &[ACTIVATE, 0, 0, 0b1100], NEW_UPLINK, NEW_UPLINK, &[ENQUEUE, 0, 0, 1, 0], PLAN_NEXT,
        ACK_UPLINK,
    ]]),
    ("two_homes", &[DEVICE, SESSION, &[
        NEW_UPLINK, &[UPLINK, 0, 0b1_0100, 0, 0], &[UPLINK, 0, 0b1_0100, 0, 0], &[PLAN, 0, 4, 0],
        &[PLAN, 0, 0b1_1000, 0], &[BOOT, 1, 0], &[CUT], &[PLAN, 0, 0b1_0100, 0], &[BOOT, 1, 7],
    ]]),
    ("two_counters_of_1_1", &[&[
        &[PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 2], &[PUT_DEVICE, 0, 1, 0],
        &[ACTIVATE, 0, 8, 5], NEW_UPLINK, &[ENQUEUE, 0, 0, 1, 0], &[PLAN, 0, 0b100_1000, 0],
        &[TX_ACK, 0, 8, 0b100_0000], &[TX_ACK, 0, 0, 0b000_0100], ACK_UPLINK,
        &[ENQUEUE, 0, 1, 0b1100_0000, 0], &[PLAN, 0, 0b1000_1000, 0], &[DEACTIVATE, 0],
        &[ACTIVATE, 0, 8, 0], &[ENQUEUE, 0, 2, 0, 0], &[PLAN, 0, 0b1000_1000, 0],
    ]]),
    ("mac_requests", &[&[
        &[PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 0b1100_1001], &[PUT_DEVICE, 0, 0b10_0001, 0],
        &[JOIN, 0, 0, 0], &[UPLINK, 0, 2, 0, 0], &[ENQUEUE, 0, 0, 0b1100, 0], PLAN_NEXT,
        &[UPLINK, 0, 8, 0, 3], PLAN_NEXT, &[CUT], &[UPLINK, 0, 8, 0, 2], &[UPLINK, 0, 8, 0, 1],
        PLAN_NEXT, &[PUT_PROFILE, 0, 2, 0b1100], PLAN_NEXT, &[UPLINK, 0, 8, 0, 2],
    ]]),
    ("disabled", &[DEVICE, SESSION, &[
        &[PUT_DEVICE, 0, 0b1010, 129], NEW_UPLINK, PLAN_NEXT, &[PUT_DEVICE, 0, 2, 0], NEW_UPLINK,
    ]]),
    ("moved_within_and_out_of_a_tenant", &[DEVICE, SESSION, &[
        &[PUT_APPLICATION, 1, 1], &[PUT_TENANT, 1, 1], &[PUT_APPLICATION, 2, 1],
        &[PUT_PROFILE, 2, 1, 0], &[PUT_PROFILE, 1, 1, 0], &[PUT_DEVICE, 0, 0b110_0010, 1],
        NEW_UPLINK, &[PUT_DEVICE, 0, 2, 8], &[PUT_DEVICE, 0, 2, 5], &[PUT_DEVICE, 0, 2, 7],
        &[PUT_DEVICE, 1, 1, 5], &[PUT_DEVICE, 2, 2, 8], &[DELETE_PROFILE, 0], &[DELETE_PROFILE, 2],
        &[PUT_APPLICATION, 1, 0b1000_0000], &[PUT_PROFILE, 0, 0b1000_0000, 0],
        &[PUT_PROFILE, 1, 0b1000_0000, 0], &[CUT], &[DELETE_APPLICATION, 1],
        &[DELETE_APPLICATION, 1], &[DELETE_PROFILE, 0],
    ]]),
    ("names_are_unique", &[DEVICE, &[
        &[PUT_APPLICATION, 1, 0b101], &[PUT_APPLICATION, 1, 1], &[PUT_APPLICATION, 1, 0b110],
        &[PUT_PROFILE, 1, 0b101, 0], &[PUT_TENANT, 1, 0b101], &[PUT_TENANT, 1, 1],
        &[PUT_TENANT, 1, 0b110], &[PUT_USER, 1, 0b101], &[PUT_USER, 1, 1], &[PUT_USER, 1, 0b110],
        &[PUT_PROFILE, 1, 0b101, 0], &[PUT_APPLICATION, 2, 0b101], &[CUT], &[FOUND],
    ]]),
    ("limits_of_a_tenant", &[DEVICE, &[
        &[PUT_TENANT, 0, 0b0101_0010], &[PUT_DEVICE, 1, 1, 0], &[PUT_DEVICE, 0, 2, 0],
        &[PUT_GATEWAY, 0, 1], &[PUT_GATEWAY, 1, 1], &[PUT_GATEWAY, 0, 2],
        &[PUT_TENANT, 0, 0b10_1010], &[PUT_DEVICE, 1, 1, 0], &[PUT_DEVICE, 2, 1, 0],
        &[PUT_GATEWAY, 1, 1], &[PUT_GATEWAY, 0, 0b1000_0010], &[PUT_TENANT, 1, 1],
        &[PUT_GATEWAY, 0, 0b1000_0010], &[DELETE_GATEWAY, 0], &[PUT_GATEWAY, 0, 0b1000_0001],
        &[DELETE_TENANT, 1],
    ]]),
    ("people", &[&[
        &[PUT_TENANT, 1, 1], &[PUT_USER, 1, 1], &[SET_RIGHTS, 0, 1, 2], &[SET_RIGHTS, 1, 1, 0],
        &[SET_RIGHTS, 1, 0, 1], &[SET_RIGHTS, 0, 1, 0], &[SET_PASSWORD, 1, 9],
        &[PUT_USER, 1, 0b1_0010], &[CREATE_API_KEY, 0, 0], &[CREATE_API_KEY, 0, 0],
        &[CREATE_API_KEY, 1, 2], &[RETRY, 0], &[CUT], &[DELETE_TENANT, 0], &[DELETE_USER, 1],
        &[DELETE_API_KEY, 1], &[SET_RIGHTS, 1, 1, 1], &[SET_PASSWORD, 1, 9],
    ]]),
    ("a_tenant_goes_with_all_it_owns", &[DEVICE, SESSION, CLIENTS, &[
        &[PUT_TENANT, 1, 1], &[PUT_APPLICATION, 2, 1], &[PUT_PROFILE, 2, 1, 0],
        &[PUT_DEVICE, 1, 1, 8], &[PUT_ACCOUNT, 2, 1, 1], &[OPEN, 2, 0], &[SUBSCRIBE, 2, 0, 0, 0],
        &[PUT_GATEWAY, 0, 1], &[CREATE_API_KEY, 0, 0], &[SET_RIGHTS, 0, 0, 2], NEW_UPLINK,
        &[ENQUEUE, 0, 0, 0, 0], &[CUT], &[DELETE_TENANT, 0], &[CUT], NEW_UPLINK,
        &[PUT_TENANT, 0, 1], &[PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 0],
        &[PUT_DEVICE, 0, 1, 0], &[ACTIVATE, 0, 0, 0], NEW_UPLINK,
    ]]),
    ("events_wait_for_clients", &[DEVICE, SESSION, CLIENTS, &[
        NEW_UPLINK, &[UPLINK, 0, 8, 0, 1], &[TAKE, 0, 0, 1], &[CLOSE, 1, 0], NEW_UPLINK, &[CUT],
        &[OPEN, 1, 2], &[TAKE, 1, 1, 1], &[TAKE, 1, 4, 9], &[TAKE, 1, 0xE0, 9], &[TAKE, 2, 0, 9],
        NEW_UPLINK,
    ]]),
    ("one_owner_of_a_session", &[CLIENTS, &[
        &[OPEN, 0, 0b0_1000], &[CLOSE, 0, 0xE0], &[SUBSCRIBE, 0, 0xE0, 5, 0], &[OPEN, 0, 0b1_0001],
        &[OPEN, 0, 0b1000_0000], &[OPEN, 2, 0], &[CLOSE, 0, 1], &[CLOSE, 0, 0], &[OPEN, 0, 0],
        &[RETRY, 0], &[OPEN, 0, 0], &[RETRY, 1],
    ]]),
    ("sessions_end", &[CLIENTS, &[
        &[OPEN, 0, 0b010], &[CLOSE, 0, 0], &[CLOCK, 0, 2], &[OPEN, 2, 0], &[CLOCK, 0, 2],
        &[OPEN, 2, 0], &[OPEN, 0, 0b100], &[OPEN, 1, 0b110], &[BOOT, 0, 0], &[CUT], &[CLOCK, 0, 7],
        &[BOOT, 0, 0], &[CLOCK, 0, 5], &[BOOT, 1, 0], &[OPEN, 1, 0b110], &[PUT_ACCOUNT, 1, 2, 4],
        &[PUT_ACCOUNT, 1, 2, 0], &[OPEN, 1, 0], &[DELETE_ACCOUNT, 1],
    ]]),
    ("subscriptions", &[CLIENTS, &[
        &[SUBSCRIBE, 0, 0, 255, 0], &[SUBSCRIBE, 0, 0, 9, 0], &[SUBSCRIBE, 0, 0, 10, 0],
        &[SUBSCRIBE, 0, 0, 11, 0], &[SUBSCRIBE, 0, 1, 5, 0x86], &[SUBSCRIBE, 0, 4, 7, 0x40],
        &[PUBLISH, 0, 0, 0], &[PUBLISH, 0, 1, 1], &[SUBSCRIBE, 0, 0, 0, 0xC5],
        &[SUBSCRIBE, 0, 0, 0, 0xC6], &[CUT], &[PUBLISH, 0, 0, 0], &[PUBLISH, 0, 0, 1],
        &[SUBSCRIBE, 0, 0, 0, 0xC7], &[PUBLISH, 0, 0, 1],
    ]]),
    ("messages_wait_for_clients", &[DEVICE, CLIENTS, &[
        &[SUBSCRIBE, 1, 1, 1, 0], &[PUBLISH, 0, 0, 0], &[PUBLISH, 3, 1, 0], &[PUBLISH, 5, 0, 0],
        &[PUBLISH, 6, 0, 0], &[PUBLISH, 8, 0, 0], &[PUBLISH, 3, 0b1000, 0], &[PUBLISH, 3, 2, 0],
        &[TAKE, 0, 0, 2], &[CUT], &[TAKE, 1, 0, 9], &[CLOSE, 0, 1],
    ]]),
    ("retained", &[CLIENTS, &[
        &[PUBLISH, 0, 4, 0], &[PUBLISH, 0, 0b100_0100, 0], &[PUBLISH, 11, 4, 0], &[CUT],
        &[PUBLISH, 0, 0b1_0100, 0], &[PUBLISH, 2, 0b1_1100, 0],
    ]]),
    ("a_clients_queue_is_bounded", &[CLIENTS, &[
        &[BURST, 255, PUBLISH, 0, 0, 0], &[BURST, 255, PUBLISH, 2, 0, 0],
        &[BURST, 255, PUBLISH, 0, 0, 0], &[BURST, 255, PUBLISH, 2, 0, 0], &[CUT],
        &[PUBLISH, 0, 0, 0],
    ]]),
    ("answers_are_forgotten", &[&[
        &[PUT_TENANT, 1, 1], &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0],
        &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0],
        &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0],
        &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0],
        &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0],
        &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 255, RAISE_LEVEL, 0], &[BURST, 15, RAISE_LEVEL, 0],
        &[BURST, 105, RAISE_LEVEL, 0], &[RETRY, 253], &[CUT], &[RETRY, 252],
    ]]),
    ("old_rows_go", &[DEVICE, SESSION, CLIENTS, &[
        NEW_UPLINK, &[CLOCK, 6, 0], NEW_UPLINK, &[CLOCK, 7, 0], NEW_UPLINK, &[CLOCK, 9, 0],
        NEW_UPLINK, &[CLOCK, 11, 0], NEW_UPLINK, &[CLOCK, 13, 0], NEW_UPLINK, &[CUT],
        &[CLOCK, 10, 0], NEW_UPLINK, NEW_UPLINK, &[CLOCK, 15, 0], NEW_UPLINK,
    ]]),
    ("several_in_one_entry", &[&[
        &[BATCH, 6, PUT_APPLICATION, 0, 1], &[PUT_PROFILE, 0, 1, 0], &[PUT_DEVICE, 0, 1, 0],
        &[ACTIVATE, 0, 0, 5], &[ENQUEUE, 0, 0, 1, 0], &[RETRY, 0], NEW_UPLINK, PLAN_NEXT,
        &[BATCH, 2, UPLINK, 0, 8, 0, 0], &[RETRY, 0], NEW_UPLINK, &[DELETE_DEVICE, 0], &[RETRY, 1],
    ]]),
    ("feature_level", &[&[
        &[RAISE_LEVEL, 0], &[RAISE_LEVEL, 128], &[RAISE_LEVEL, 255], &[BOOT, 2, 255],
        &[RAISE_LEVEL, 0], &[BATCH, 0, BOOT, 2, 0], &[RAISE_LEVEL, 255], &[BOOT, 2, 0],
        &[RAISE_LEVEL, 0],
    ]]),
];

/// The corpus files of the stories: name and bytes.
pub fn files() -> impl Iterator<Item = (String, Vec<u8>)> {
    let steps = |parts: &[&[&[u8]]]| parts.concat().concat();
    STORIES.iter().map(move |(name, parts)| (format!("story_{name}"), steps(parts)))
}
