//! The cluster's own entries: founding, starts of nodes, the feature level.

use std::sync::Arc;

use mac::NodeId;
use mac::transition::void_grants;

use super::{Applied, Change, Decision};
use crate::limits::FEATURE_LEVEL;
use crate::model::{Tenant, User};
use crate::state::Cluster;
use crate::{Id, Member, Nameplate, Refusal, Reply, State};

/// Which cluster begins, and who says so.
pub(super) struct Founding<'a> {
    pub(super) cluster_id: Id,
    pub(super) cluster_name: &'a str,
    pub(super) node: NodeId,
}

impl State {
    pub(super) fn found(
        &mut self,
        founding: &Founding<'_>,
        admin: &User,
        tenant: &Tenant,
        founders: &[(NodeId, Nameplate)],
        applied: &mut Applied,
    ) -> Decision {
        let Founding { cluster_id, cluster_name, node } = *founding;
        if let Some(cluster) = &self.core.cluster {
            return Err(Refusal::AlreadyExists(format!("cluster {}", cluster.id)));
        }
        self.core.cluster = Some(Cluster { id: cluster_id, name: cluster_name.to_owned() });
        self.core.feature_level = FEATURE_LEVEL;
        let booted_at = self.time();
        let member = Member { feature_level: FEATURE_LEVEL, booted_at, ..Member::default() };
        self.members.insert(node, member.clone());
        for (node, plate) in founders {
            self.members.insert(*node, Member { plate: plate.clone(), ..member.clone() });
            applied.changes.push(Change::Member(*node));
        }
        let admin = User { created_at: booted_at, updated_at: booted_at, ..admin.clone() };
        self.index.user_added(&admin);
        applied.changes.push(Change::User(admin.id));
        self.users.insert(admin.id, Arc::new(admin));
        let tenant = Tenant { created_at: booted_at, updated_at: booted_at, ..tenant.clone() };
        self.index.tenant_added(&tenant);
        applied.changes.push(Change::Tenant(tenant.id));
        self.tenants.insert(tenant.id, Arc::new(tenant));
        Ok(Reply::Done)
    }

    /// A start voids what the node held before it: grants, whose use it may have forgotten (dangers
    /// A9), and the connections of persistent sessions.
    pub(super) fn boot(
        &mut self,
        node: NodeId,
        boot: u64,
        feature_level: u32,
        plate: Option<&Nameplate>,
        applied: &mut Applied,
    ) -> Decision {
        let known = self.members.get(&node).cloned().unwrap_or_default();
        if boot <= known.boot {
            let text = format!(
                "start {boot} of node {} comes after start {}: two processes run with one \
                 identity (a copied data folder?)",
                node.0, known.boot
            );
            return Err(Refusal::Invalid(text));
        }
        if !known.is_live() {
            return Err(Refusal::Invalid(format!("node {} was removed from the cluster", node.0)));
        }
        let booted_at = self.time();
        let moved = plate.filter(|plate| **plate != known.plate);
        let plate = plate.cloned().unwrap_or_else(|| known.plate.clone());
        if moved.is_some() {
            applied.changes.push(Change::Member(node));
        }
        self.members.insert(node, Member { boot, feature_level, booted_at, plate, ..known });
        self.forget_node(node, applied);
        Ok(Reply::Done)
    }

    /// Voids the grants that a node holds and ends the connections of persistent sessions to it.
    pub(super) fn forget_node(&mut self, node: NodeId, applied: &mut Applied) {
        let holds = |session: &mac::DeviceSession| {
            let held = [session.n_f_cnt_down.grant, session.a_f_cnt_down.grant];
            held.into_iter().flatten().any(|grant| grant.home == node)
        };
        let holders = self.devices.values().filter(|device| {
            let sessions = [&device.session, &device.pending_session];
            sessions.into_iter().flatten().any(holds)
        });
        let holders: Vec<_> = holders.map(|device| device.dev_eui).collect();
        for dev_eui in holders {
            self.change_device(dev_eui, |device| {
                let sessions = [&mut device.session, &mut device.pending_session];
                sessions.into_iter().flatten().for_each(|session| void_grants(session, node));
            });
        }
        self.disconnect_clients_of(node, applied);
    }

    pub(super) fn raise_feature_level(&mut self, level: u32) -> Decision {
        if level < self.core.feature_level {
            let text = format!("the feature level is {} already", self.core.feature_level);
            return Err(Refusal::Invalid(text));
        }
        let mut live = self.members.iter().filter(|(_, member)| member.is_live());
        let behind = live.find(|(_, member)| member.feature_level < level);
        if let Some((node, member)) = behind {
            let known = member.feature_level;
            let text = format!("node {} knows feature level {known}, not {level}", node.0);
            return Err(Refusal::Invalid(text));
        }
        self.core.feature_level = level;
        Ok(Reply::Done)
    }
}
