//! A node without its disk and its network: one PUSH_DATA in, through MIC, window, log entry and
//! apply, to the row of the event log; confirmed ones also to the PULL_RESP. And the log of such a
//! round alone, applied to the state it was made for.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use store::State;
use tests::loopback::{Abp, Loopback};

const DEVICES: u32 = 1_000;

struct Field {
    loopback: Loopback,
    devices: Vec<Abp>,
    sent: u32,
}

impl Field {
    fn new() -> Self {
        let mut loopback = Loopback::new();
        let devices = (0..DEVICES).map(|number| loopback.add_device(number)).collect();
        Self { loopback, devices, sent: 0 }
    }

    /// One frame of each device, then the time it takes to decide and answer them.
    fn round(&mut self, confirmed: bool) {
        for device in &self.devices {
            let push = device.push(self.sent, confirmed, self.sent.wrapping_mul(10_000));
            self.loopback.datagram(&push);
        }
        self.sent += 1;
        self.loopback.pass(Duration::from_secs(2));
        assert_eq!(self.loopback.rows.len(), self.devices.len(), "each frame became one row");
        self.loopback.rows.clear();
        self.loopback.datagrams.clear();
        self.loopback.log.clear();
    }
}

fn ingest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(u64::from(DEVICES)));
    group.sample_size(10);
    for (name, confirmed) in [("unconfirmed", false), ("confirmed", true)] {
        let mut field = Field::new();
        group.bench_function(name, |bencher| bencher.iter(|| field.round(confirmed)));
    }
    group.finish();
}

/// What the log of one round of uplinks costs, apart from all that led to it.
fn apply(criterion: &mut Criterion) {
    let mut loopback = Loopback::new();
    let devices: Vec<_> = (0..DEVICES).map(|number| loopback.add_device(number)).collect();
    let mut before = State::new();
    for (index, entry) in core::mem::take(&mut loopback.log) {
        before.apply(index, &entry).expect("the log understands itself");
    }
    for device in &devices {
        loopback.datagram(&device.push(1, false, 10_000));
    }
    loopback.pass(Duration::from_secs(2));
    let round = loopback.log;
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(u64::from(DEVICES)));
    group.bench_function("uplinks", |bencher| {
        let apply = |mut state: State| {
            for (index, entry) in &round {
                state.apply(*index, entry).expect("the log understands itself");
            }
            state
        };
        bencher.iter_batched(|| before.clone(), apply, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, ingest, apply);
criterion_main!(benches);
