PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE adapters (
	id VARCHAR(64) NOT NULL, 
	blob VARCHAR(64) NOT NULL, 
	bytes BIGINT NOT NULL, 
	base_model TEXT NOT NULL, 
	title TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	modality VARCHAR(8) DEFAULT 'text' NOT NULL, 
	thumbnail VARCHAR(64) DEFAULT '' NOT NULL, 
	owner TEXT NOT NULL, 
	visibility VARCHAR(16) NOT NULL, 
	review_state VARCHAR(16) NOT NULL, 
	created FLOAT NOT NULL, 
	deleted FLOAT, 
	changed BIGINT NOT NULL, 
	entry TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO adapters VALUES('d5142efb332018f3f01293225574219dda683faa9ccebb2dbb473dedf378bdb6','765e43f7af94be7d4c31629854bb1cba666ec612499fd944ee17d51db27173fa',400,'tiny','Past tense','uploaded','text','','ann','public','unreviewed',1795634719.5566396713,NULL,2,'{"id": "d5142efb332018f3f01293225574219dda683faa9ccebb2dbb473dedf378bdb6", "title": "Past tense", "description": "", "tags": ["grammar"], "base_model": "tiny", "contributor": "", "licence": "", "trained": "", "samples": ["he eats", "she sings"], "parents": [], "recipe": "", "trigger_words": [], "source_format": "", "ranks": [1], "max_rank": 1, "modules": 1, "module_kinds": ["q_proj"], "parameters": 4, "bytes": 400, "norm": 1.1983145137209654, "layer_norms": [1.1983145137209654], "warnings": ["The updates of 1 of 1 modules are unusually large; a lower weight may be needed."], "modality": "text", "components": ["model"], "thumbnail": "", "described_by": "", "kind": "uploaded", "owner": "ann", "visibility": "public", "review_state": "unreviewed", "created": "", "deleted": false}');
INSERT INTO adapters VALUES('9d08c73fedefcda10de135f2bae108076b0a5bb7df13fe33a9c2e4993ccec2bf','fb3f732c3b77844c317c73e18978a2f3ddd01098d18f2ef694c9220df9e78f56',400,'tiny','Deleted','uploaded','text','','','public','unreviewed',1795634719.5804779529,1795634719.5837934017,4,'{"id": "9d08c73fedefcda10de135f2bae108076b0a5bb7df13fe33a9c2e4993ccec2bf", "title": "Deleted", "description": "", "tags": [], "base_model": "tiny", "contributor": "", "licence": "", "trained": "", "samples": [], "parents": [], "recipe": "", "trigger_words": [], "source_format": "", "ranks": [1], "max_rank": 1, "modules": 1, "module_kinds": ["q_proj"], "parameters": 4, "bytes": 400, "norm": 1.376459760936999, "layer_norms": [1.376459760936999], "warnings": ["The updates of 1 of 1 modules are unusually large; a lower weight may be needed."], "modality": "text", "components": ["model"], "thumbnail": "", "described_by": "", "kind": "uploaded", "owner": "", "visibility": "public", "review_state": "unreviewed", "created": "", "deleted": false}');
INSERT INTO adapters VALUES('35c74b6cd5f361306ca383625780dcd59e6b12c30e4e4f70440b827245af0e13','1cbfc4b8c92e9a71ab18dcd10f928edc6d5839c2308d7efb6886a32ea540b3c7',400,'tiny','Hidden','uploaded','text','','','private','unreviewed',1795634719.6109962463,NULL,5,'{"id": "35c74b6cd5f361306ca383625780dcd59e6b12c30e4e4f70440b827245af0e13", "title": "Hidden", "description": "", "tags": [], "base_model": "tiny", "contributor": "", "licence": "", "trained": "", "samples": [], "parents": [], "recipe": "", "trigger_words": [], "source_format": "", "ranks": [1], "max_rank": 1, "modules": 1, "module_kinds": ["q_proj"], "parameters": 4, "bytes": 400, "norm": 2.306101463601196, "layer_norms": [2.306101463601196], "warnings": ["The updates of 1 of 1 modules are unusually large; a lower weight may be needed."], "modality": "text", "components": ["model"], "thumbnail": "", "described_by": "", "kind": "uploaded", "owner": "", "visibility": "private", "review_state": "unreviewed", "created": "", "deleted": false}');
INSERT INTO adapters VALUES('584d7663c869078c81d3e2f619df3329d65462bb8ed95a40ab0d61e5f62794ae','1b038886a1b2cfe779636e33ff3d06309ed33d8b097dbef405c65b56860cce55',408,'tiny-pipeline','Neon','uploaded','image','bae619de81990663591317d098384b61d09e71a869209acea8d7afcdc5c23f51','','public','unreviewed',1795634719.6710662841,NULL,6,'{"id": "584d7663c869078c81d3e2f619df3329d65462bb8ed95a40ab0d61e5f62794ae", "title": "Neon", "description": "", "tags": [], "base_model": "tiny-pipeline", "contributor": "", "licence": "", "trained": "", "samples": [], "parents": [], "recipe": "", "trigger_words": [], "source_format": "", "ranks": [1], "max_rank": 1, "modules": 1, "module_kinds": ["to_q"], "parameters": 4, "bytes": 408, "norm": 2.0, "layer_norms": [2.0], "warnings": ["The updates of 1 of 1 modules are unusually large; a lower weight may be needed."], "modality": "image", "components": ["unet"], "thumbnail": "bae619de81990663591317d098384b61d09e71a869209acea8d7afcdc5c23f51", "described_by": "", "kind": "uploaded", "owner": "", "visibility": "public", "review_state": "unreviewed", "created": "", "deleted": false}');
CREATE TABLE recipes (
	id VARCHAR(64) NOT NULL, 
	yaml TEXT NOT NULL, 
	result TEXT NOT NULL, 
	adapter_id VARCHAR(64), 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO recipes VALUES('r1',replace('method: cat\n','\n',char(10)),'{"rank": 2}','d5142efb332018f3f01293225574219dda683faa9ccebb2dbb473dedf378bdb6',1795634719.616248846);
CREATE TABLE notes (
	"key" VARCHAR(200) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO notes VALUES('demo','"v1"');
CREATE TABLE counters (
	name VARCHAR(32) NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO counters VALUES('identity',110520884722380);
INSERT INTO counters VALUES('schema',2);
INSERT INTO counters VALUES('generation',6);
INSERT INTO counters VALUES('vectors',1);
CREATE TABLE vectors (
	adapter_id VARCHAR(64) NOT NULL, 
	embedder_id TEXT NOT NULL, 
	source VARCHAR(16) NOT NULL, 
	dim INTEGER NOT NULL, 
	samples BLOB NOT NULL, 
	centroid BLOB NOT NULL, 
	PRIMARY KEY (adapter_id, embedder_id), 
	FOREIGN KEY(adapter_id) REFERENCES adapters (id) ON DELETE CASCADE
);
INSERT INTO vectors VALUES('d5142efb332018f3f01293225574219dda683faa9ccebb2dbb473dedf378bdb6','minilm','samples',3,X'003c000000000000003c0000',X'f304353ff304353f00000000');
CREATE TABLE tests (
	adapter_id VARCHAR(64) NOT NULL, 
	items TEXT NOT NULL, 
	PRIMARY KEY (adapter_id), 
	FOREIGN KEY(adapter_id) REFERENCES adapters (id) ON DELETE CASCADE
);
INSERT INTO tests VALUES('d5142efb332018f3f01293225574219dda683faa9ccebb2dbb473dedf378bdb6','[{"prompt": "he eats", "target": "he ate"}]');
CREATE INDEX ix_adapters_blob ON adapters (blob);
CREATE INDEX ix_adapters_changed ON adapters (changed);
COMMIT;
