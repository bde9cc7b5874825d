-- Auth's tables as SQLAlchemy makes them in Postgres. $SCHEMA stands for the schema.
CREATE SCHEMA $SCHEMA;
CREATE TABLE $SCHEMA.auth_group (
	id SERIAL NOT NULL,
	creator VARCHAR(64) NOT NULL,
	role VARCHAR(64) NOT NULL,
	description TEXT,
	is_active BOOLEAN,
	date_created TIMESTAMP WITHOUT TIME ZONE,
	modified TIMESTAMP WITHOUT TIME ZONE,
	PRIMARY KEY (id),
	CONSTRAINT uq_group_creator_role UNIQUE (creator, role)
);
CREATE TABLE $SCHEMA.auth_permission (
	id SERIAL NOT NULL,
	creator VARCHAR(64),
	name TEXT,
	is_active BOOLEAN,
	date_created TIMESTAMP WITHOUT TIME ZONE,
	modified TIMESTAMP WITHOUT TIME ZONE,
	PRIMARY KEY (id),
	CONSTRAINT uq_permission_creator_name UNIQUE (creator, name)
);
CREATE TABLE $SCHEMA.auth_membership (
	id SERIAL NOT NULL,
	creator VARCHAR(64),
	"user" TEXT,
	is_active BOOLEAN,
	date_created TIMESTAMP WITHOUT TIME ZONE,
	modified TIMESTAMP WITHOUT TIME ZONE,
	PRIMARY KEY (id),
	CONSTRAINT uq_membership_creator_user UNIQUE (creator, "user")
);
CREATE TABLE $SCHEMA.membership_groups (
	membership_id INTEGER NOT NULL,
	group_id INTEGER NOT NULL,
	PRIMARY KEY (membership_id, group_id),
	CONSTRAINT membership_fk FOREIGN KEY(membership_id) REFERENCES $SCHEMA.auth_membership (id),
	CONSTRAINT group_fk FOREIGN KEY(group_id) REFERENCES $SCHEMA.auth_group (id)
);
CREATE TABLE $SCHEMA.permission_groups (
	permission_id INTEGER NOT NULL,
	group_id INTEGER NOT NULL,
	PRIMARY KEY (permission_id, group_id),
	CONSTRAINT permission_fk FOREIGN KEY(permission_id) REFERENCES $SCHEMA.auth_permission (id),
	CONSTRAINT group_fk FOREIGN KEY(group_id) REFERENCES $SCHEMA.auth_group (id)
);
CREATE TABLE $SCHEMA.auth_api_key (
	id SERIAL NOT NULL,
	key_id VARCHAR(36) NOT NULL,
	creator VARCHAR(64) NOT NULL,
	"user" TEXT NOT NULL,
	key_hash VARCHAR(64) NOT NULL,
	key_prefix VARCHAR(16),
	label TEXT,
	is_active BOOLEAN,
	revoked_at TIMESTAMP WITHOUT TIME ZONE,
	expires_at TIMESTAMP WITHOUT TIME ZONE,
	last_used_at TIMESTAMP WITHOUT TIME ZONE,
	date_created TIMESTAMP WITHOUT TIME ZONE,
	PRIMARY KEY (id),
	UNIQUE (key_id),
	UNIQUE (key_hash)
);
CREATE TABLE $SCHEMA.auth_tenant_settings (
	id SERIAL NOT NULL,
	creator VARCHAR(64) NOT NULL,
	strict_users BOOLEAN,
	PRIMARY KEY (id),
	UNIQUE (creator)
);
CREATE TABLE $SCHEMA.audit_log (
	id BIGSERIAL NOT NULL,
	timestamp TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	client_id VARCHAR(64),
	"user" VARCHAR(255),
	action VARCHAR(64) NOT NULL,
	resource VARCHAR(255),
	details TEXT,
	ip_address VARCHAR(64),
	user_agent TEXT,
	success INTEGER,
	PRIMARY KEY (id, timestamp)
) PARTITION BY RANGE (timestamp);
CREATE TABLE $SCHEMA.audit_log_2024_05 PARTITION OF $SCHEMA.audit_log FOR VALUES FROM ('2024-05-01') TO ('2024-06-01');
CREATE TABLE $SCHEMA.audit_log_2024_06 PARTITION OF $SCHEMA.audit_log FOR VALUES FROM ('2024-06-01') TO ('2024-07-01');
CREATE TABLE $SCHEMA.audit_log_default PARTITION OF $SCHEMA.audit_log DEFAULT;
