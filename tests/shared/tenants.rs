//! Two owners and an operator change tokens at random in one store. What each owner observes equals
//! what it would observe alone, in a store without the tokens of the others: no id, count, name,
//! limit, page or error depends on them.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_service_token::clock::{Clock, ManualClock};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{
    LifecycleError, NewToken, Owner, Page, TokenPolicy, TokenUpdate,
};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::{Credential, TokenRecord, TokenStatus, verdict};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{MemoryStore, Principal, ServiceTokens};

use crate::operations::Store;

const OWNERS: [&str; 2] = ["user:1", "user:2"];
const NAMES: [&str; 4] = ["ci", "deploy", "backup", "test"];
const MAX_TOKENS: u64 = 5;
/// A token that no store has.
const UNKNOWN: &str = "0000000000";

/// A generator of numbers (xorshift), so that a seed reproduces a walk.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// A store in which an owner acts, alone or beside others.
struct World {
    tokens: ServiceTokens,
    /// The tokens of the owner, in the order of their creation. In all worlds of an owner, a place is
    /// that of the same token.
    ids: Vec<TokenId>,
    holder: Principal,
}

/// The token that a call names.
#[derive(Clone, Copy)]
enum Target {
    /// By its place.
    Own(usize),
    /// One of another owner, of no owner, or of nobody.
    Foreign(TokenId),
}

#[derive(Clone, Copy)]
enum Caller {
    Owner,
    Holder,
    Operator,
}

/// A call of one owner, the same in each of its worlds.
#[derive(Clone)]
enum Call {
    Create(NewToken),
    Import(NewToken, TokenDigest),
    Get(Target),
    GetByNumber(Target),
    Update(Target, TokenUpdate),
    Rotate(Target, Duration),
    RotateOnce(Target, Duration, String),
    Disable(Target),
    Enable(Target),
    Revoke(Target),
    List(TokenFilter, usize),
    Count(TokenFilter),
    Preview(TokenFilter),
    RevokeWhere(TokenFilter, Option<usize>),
    Purge(Duration),
}

impl World {
    /// Creates the world with the token of a holder in it.
    async fn new(store: Store, clock: &ManualClock, owner: &str) -> Self {
        let policy = TokenPolicy::new().require_unique_names();
        let tokens = ServiceTokens::new(store.clone())
            .with_clock(clock.clone())
            .with_policy(policy.with_max_tokens_per_owner(MAX_TOKENS));
        let new = NewToken::new("holder")
            .with_owner(owner)
            .with_scopes(["**"]);
        let issued = tokens.create(new).await.unwrap();
        let credential = Credential::new(PresentedToken::new(issued.expose_secret()).unwrap());
        let found = store.find_uncached(&credential).await.unwrap();
        let holder = verdict(found, &credential, clock).unwrap();
        Self {
            tokens,
            ids: vec![issued.record().id()],
            holder,
        }
    }

    fn id(&self, target: Target) -> TokenId {
        match target {
            Target::Own(place) => self.ids[place],
            Target::Foreign(id) => id,
        }
    }

    fn acting_for(&self, caller: Caller, owner: &str) -> ServiceTokens {
        match caller {
            Caller::Operator => self.tokens.clone(),
            Caller::Holder => self.tokens.clone().acting_for(self.holder.clone()),
            Caller::Owner => {
                let owner = Owner::new(owner)
                    .with_roles(["deployer"])
                    .with_scopes(["projects:*"]);
                self.tokens.clone().acting_for(owner)
            }
        }
    }

    /// Makes the call and describes its outcome, with places instead of ids.
    async fn observe(&mut self, tokens: &ServiceTokens, call: Call) -> String {
        let outcome = self.make(tokens, call).await;
        let mut text = match outcome {
            Ok(text) => text,
            Err(LifecycleError::AlreadyCreated(record)) => {
                format!("created before: {}", describe(&record))
            }
            Err(LifecycleError::AlreadyRotated(token)) => {
                format!("rotated before: {}", describe(&token.record))
            }
            Err(error) => format!("{error}"),
        };
        for (place, id) in self.ids.iter().enumerate() {
            text = text.replace(&id.to_string(), &format!("#{place}"));
        }
        text
    }

    async fn make(&mut self, tokens: &ServiceTokens, call: Call) -> Result<String, LifecycleError> {
        let changed = match call {
            Call::Create(new) => {
                let record = tokens.create(new).await?.record().clone();
                self.ids.push(record.id());
                record
            }
            Call::Import(new, digest) => {
                let record = tokens.import(new, digest).await?;
                self.ids.push(record.id());
                record
            }
            Call::Get(target) => tokens.get(self.id(target)).await?,
            Call::GetByNumber(target) => tokens.get_by_number(self.id(target).number()).await?,
            Call::Update(target, update) => tokens.update(self.id(target), update).await?.record,
            Call::Rotate(target, grace) => tokens
                .rotate(self.id(target), grace)
                .await?
                .record()
                .clone(),
            Call::RotateOnce(target, grace, key) => {
                let rotated = tokens.rotate_once(self.id(target), grace, &key).await?;
                rotated.record().clone()
            }
            Call::Disable(target) => tokens.disable(self.id(target)).await?.record,
            Call::Enable(target) => tokens.enable(self.id(target)).await?.record,
            Call::Revoke(target) => tokens.revoke(self.id(target)).await?.record,
            Call::List(filter, limit) => return list(tokens, filter, limit).await,
            Call::Count(filter) => return Ok(tokens.count(filter).await?.to_string()),
            Call::Preview(filter) => {
                return Ok(format!("{:?}", tokens.preview_revocation(filter).await?));
            }
            Call::RevokeWhere(filter, expect) => {
                let revoked = tokens.revoke_where(filter, expect).await?;
                return Ok(format!(
                    "{:?} {}",
                    sorted(self, revoked.ids),
                    revoked.remaining
                ));
            }
            Call::Purge(age) => return Ok(format!("{:?}", sorted(self, tokens.purge(age).await?))),
        };
        Ok(describe(&changed))
    }
}

/// Returns the places of these tokens. A token that is not the owner's is none.
fn sorted(world: &World, ids: Vec<TokenId>) -> Vec<Option<usize>> {
    let place = |id| world.ids.iter().position(|known| *known == id);
    let mut places: Vec<_> = ids.into_iter().map(place).collect();
    places.sort_unstable();
    places
}

async fn list(
    tokens: &ServiceTokens,
    filter: TokenFilter,
    limit: usize,
) -> Result<String, LifecycleError> {
    let mut text = String::new();
    let mut page = Page::with_limit(limit);
    loop {
        let found = tokens.list(filter.clone(), page).await?;
        for record in &found.records {
            writeln!(text, "{}", describe(record)).unwrap();
        }
        writeln!(text, "page").unwrap();
        match found.next {
            Some(next) => page = page.after(next),
            None => return Ok(text),
        }
    }
}

fn describe(record: &TokenRecord) -> String {
    format!(
        "{record:?} {:?} {:?} {:?} revision {} {:?} {:?}",
        record.state(),
        record.created_by(),
        record.description(),
        record.revision(),
        (
            record.created_at(),
            record.updated_at(),
            record.rotated_at()
        ),
        (record.not_before(), record.grace_ends_at()),
    )
}

/// One owner in the world that it shares, and alone.
struct Tenant {
    owner: &'static str,
    shared: World,
    alone: World,
}

/// Makes `steps` random calls. The calls of an owner are made in `store` and in a store in memory with
/// nothing else in it.
pub async fn nothing_of_another_owner_is_visible(store: Store, seed: u64, steps: usize) {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_343_400));
    let mut tenants = Vec::new();
    for owner in OWNERS {
        clock.advance(Duration::from_secs(1));
        let alone: Store = Arc::new(MemoryStore::new());
        let alone = World::new(alone, &clock, owner).await;
        let shared = World::new(store.clone(), &clock, owner).await;
        tenants.push(Tenant {
            owner,
            shared,
            alone,
        });
    }
    let mut random = Random(seed | 1);
    let mut unowned = Vec::new();
    for step in 0..steps {
        clock.advance(Duration::from_secs(1 + random.below(3_600) as u64));
        if random.one_in(8) {
            change_unowned(&tenants[0].shared, &mut unowned, &mut random, step).await;
            continue;
        }
        let place = random.below(2);
        let foreign: Vec<_> = unowned
            .iter()
            .chain(&tenants[1 - place].shared.ids)
            .copied()
            .collect();
        let tenant = &mut tenants[place];
        let caller = random.of(&[
            Caller::Owner,
            Caller::Owner,
            Caller::Holder,
            Caller::Operator,
        ]);
        let call = call(&mut random, tenant, caller, &foreign, step, clock.now());
        let described = tenant.step(caller, call).await;
        assert!(described.is_ok(), "seed {seed}, step {step}: {described:?}");
    }
    for tenant in &mut tenants {
        let call = Call::List(TokenFilter::new(), 1_000);
        tenant.step(Caller::Owner, call).await.unwrap();
        let listed = tenant.alone.ids.len();
        assert!(
            listed * 20 > steps / 10,
            "{listed} tokens in {steps} steps prove little"
        );
    }
}

impl Tenant {
    /// Makes the call in both worlds. Returns the two outcomes if they differ.
    async fn step(&mut self, caller: Caller, call: Call) -> Result<(), [String; 2]> {
        let mut outcomes = Vec::new();
        for (world, is_alone) in [(&mut self.shared, false), (&mut self.alone, true)] {
            let mut call = call.clone();
            if is_alone {
                call.forget_foreign();
            }
            let tokens = world.acting_for(caller, self.owner);
            outcomes.push(world.observe(&tokens, call).await);
        }
        let [shared, alone] = <[String; 2]>::try_from(outcomes).unwrap();
        if shared == alone {
            Ok(())
        } else {
            Err([shared, alone])
        }
    }
}

impl Call {
    /// Names a token that does not exist instead of one of others.
    fn forget_foreign(&mut self) {
        let unknown: TokenId = UNKNOWN.parse().unwrap();
        match self {
            Self::Get(target)
            | Self::GetByNumber(target)
            | Self::Update(target, _)
            | Self::Rotate(target, _)
            | Self::RotateOnce(target, ..)
            | Self::Disable(target)
            | Self::Enable(target)
            | Self::Revoke(target) => {
                if let Target::Foreign(id) = target {
                    *id = unknown;
                }
            }
            Self::List(filter, _)
            | Self::Count(filter)
            | Self::Preview(filter)
            | Self::RevokeWhere(filter, _) => {
                if filter.number.is_some() {
                    *filter = filter.clone().with_number(unknown.number());
                }
            }
            Self::Create(_) | Self::Import(..) | Self::Purge(_) => {}
        }
    }
}

/// An operator creates, changes or revokes a token without an owner.
async fn change_unowned(
    world: &World,
    unowned: &mut Vec<TokenId>,
    random: &mut Random,
    step: usize,
) {
    // Without limits, so that names repeat.
    let tokens = world.tokens.clone().with_policy(TokenPolicy::new());
    let new = NewToken::new(random.of(&NAMES)).with_roles(["deployer"]);
    let new = new.with_idempotency_key(format!("key-{step}"));
    match random.below(3) {
        0 | 1 => unowned.push(tokens.create(new).await.unwrap().record().id()),
        _ if unowned.is_empty() => {}
        _ => {
            let id = random.of(unowned);
            tokens.revoke(id).await.unwrap();
        }
    }
}

/// Returns a random call. An operator, who sees everything, calls only for tokens of the owner.
fn call(
    random: &mut Random,
    tenant: &Tenant,
    caller: Caller,
    foreign: &[TokenId],
    step: usize,
    now: SystemTime,
) -> Call {
    let is_operator = matches!(caller, Caller::Operator);
    let target = |random: &mut Random| {
        if !is_operator && !foreign.is_empty() && random.one_in(3) {
            Target::Foreign(random.of(foreign))
        } else {
            Target::Own(random.below(tenant.alone.ids.len()))
        }
    };
    let grace = Duration::from_secs(random.below(7_200) as u64);
    match random.below(if is_operator { 9 } else { 16 }) {
        0 | 1 => Call::Create(new_token(random, tenant, is_operator)),
        2 => {
            let digest = TokenDigest::of(&format!("{} {step}", tenant.owner));
            Call::Import(new_token(random, tenant, is_operator), digest)
        }
        3 => Call::Update(target(random), update(random, is_operator, step)),
        4 => Call::Rotate(target(random), grace),
        5 => Call::Disable(target(random)),
        6 => Call::Enable(target(random)),
        7 => Call::Revoke(target(random)),
        8 => Call::Get(target(random)),
        9 => Call::GetByNumber(target(random)),
        10 => Call::RotateOnce(
            target(random),
            Duration::ZERO,
            random.of(&["a", "b"]).to_owned(),
        ),
        11 => Call::List(filter(random, foreign, now), 1 + random.below(4)),
        12 => Call::Count(filter(random, foreign, now)),
        13 => Call::Preview(filter(random, foreign, now)),
        14 if random.one_in(3) => {
            let expect = [None, Some(0), Some(1), Some(2), Some(3)];
            Call::RevokeWhere(filter(random, foreign, now), random.of(&expect))
        }
        15 if random.one_in(3) => Call::Purge(Duration::from_secs(random.below(100_000) as u64)),
        _ => Call::List(TokenFilter::new(), 2),
    }
}

fn new_token(random: &mut Random, tenant: &Tenant, is_operator: bool) -> NewToken {
    let mut new = NewToken::new(random.of(&NAMES));
    if is_operator || random.one_in(4) {
        // Of another owner, a holder or an owner cannot create one.
        let owner = if is_operator {
            tenant.owner
        } else {
            random.of(&OWNERS)
        };
        new = new.with_owner(owner);
    }
    if random.one_in(2) {
        new = new.with_roles([random.of(&["deployer", "admin"])]);
    }
    if random.one_in(2) {
        new = new.with_scopes([random.of(&["projects:read", "billing:read", "**"])]);
    }
    if random.one_in(3) {
        new = new.with_expiry(random.of(&["1d", "30d"]).parse().unwrap());
    }
    if random.one_in(4) && !is_operator {
        new = new.with_idempotency_key(random.of(&["k1", "k2", "k3"]));
    }
    new.with_label("team", random.of(&["x", "y"]))
}

fn update(random: &mut Random, is_operator: bool, step: usize) -> TokenUpdate {
    let update = TokenUpdate::new();
    match random.below(6) {
        0 => update.with_name(random.of(&NAMES)),
        1 => update.with_roles([random.of(&["deployer", "admin"])]),
        2 => update.with_subject("s"),
        3 => update.with_expiry("2d".parse().unwrap()),
        // To one that is in no other call.
        4 if is_operator => update.with_owner(format!("user:gone-{step}")),
        4 => update.with_owner(random.of(&OWNERS)),
        _ if is_operator => update.with_scopes(["billing:read"]),
        _ => update.without_owner(),
    }
}

fn filter(random: &mut Random, foreign: &[TokenId], now: SystemTime) -> TokenFilter {
    let mut filter = TokenFilter::new();
    for _ in 0..random.below(3) {
        filter = match random.below(12) {
            0 => filter.with_name(random.of(&NAMES)),
            1 => filter.with_role("deployer"),
            2 => filter.with_scope("projects:read"),
            3 => filter.with_subject("s"),
            4 => filter.with_owner(random.of(&OWNERS)),
            5 => {
                use TokenStatus::{Active, Disabled, Expired, Revoked};
                filter.with_status(random.of(&[Active, Disabled, Expired, Revoked]))
            }
            6 => filter.without_revoked(),
            7 => filter.with_label("team", random.of(&["x", "y"])),
            8 => filter.with_label_or_none("team", "x"),
            9 => filter.with_expires_before(now + Duration::from_secs(100_000)),
            10 => filter.with_last_used_before(now - Duration::from_secs(10_000)),
            _ if foreign.is_empty() => filter,
            _ => filter.with_number(random.of(foreign).number()),
        };
    }
    filter
}
